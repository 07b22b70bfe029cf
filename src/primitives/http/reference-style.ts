/** Over Swagger UI's own sheet, which follows light or dark: the system's fonts, one quiet colour, no banner of its maker. */
export const referenceStyle = `
:root { --brand: #1f6f50; --on-brand: #fff; --line: #d9dfdc }
html.dark-mode { --brand: #6fcfa3; --on-brand: #0d1512; --line: #35403b }
html .swagger-ui .topbar, html .swagger-ui .info .title small { display: none }
html .swagger-ui, html .swagger-ui :not(pre, pre *, code, textarea, svg *) { font-family: system-ui, sans-serif }
html .swagger-ui :is(.opblock-summary-path, .opblock-summary-path *, code, pre, textarea) { font-family: ui-monospace, monospace; font-weight: 500 }
html .swagger-ui .wrapper { max-width: 60rem; padding: 0 1.25rem }
html .swagger-ui .info { margin: 2.5rem 0 1rem }
html .swagger-ui .scheme-container { background: none; box-shadow: none; margin: 0; padding: 0 }
html .swagger-ui .opblock-tag { border-color: var(--line); font-size: 1.25rem }
html .swagger-ui .opblock[class] { border: 1px solid var(--line); border-radius: 6px; box-shadow: none; margin: 0 0 .5rem }
html:not(.dark-mode) .swagger-ui .opblock[class], html:not(.dark-mode) .swagger-ui .opblock[class] .opblock-section-header { background: #f4f7f5; box-shadow: none }
html .swagger-ui .opblock[class] .opblock-summary { border-color: var(--line) }
html .swagger-ui .opblock[class] .opblock-summary-method { background: var(--brand); color: var(--on-brand); text-shadow: none }
html .swagger-ui .opblock[class] .tab-header .tab-item.active h4 span::after { background: var(--brand) }
html .swagger-ui .btn { box-shadow: none }
html .swagger-ui .btn.execute { background: var(--brand); border-color: var(--brand); color: var(--on-brand) }
html .swagger-ui .btn.authorize { border-color: var(--brand); color: var(--brand) }
html .swagger-ui .btn.authorize svg { fill: var(--brand) }
html .swagger-ui :focus-visible { outline: 2px solid var(--brand); outline-offset: 1px }
`
