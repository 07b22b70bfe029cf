/** Small words to draw with: no page needs more. */

/**
 * Makes an element. Attributes that are functions listen to events: `h('button', { onclick: act }, 'Retry')`.
 * Texts are never parsed as HTML.
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split('.')
  const isSvg = svgTags.has(name)
  const element = isSvg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name)
  if (classes.length > 0) element.setAttribute('class', classes.join(' '))
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue
    if (typeof value === 'function') element.addEventListener(key.slice(2), value)
    else element.setAttribute(key, value === true ? '' : String(value))
  }
  element.append(...shown(children))
  return element
}

/** Leaves out what is not to be shown: `undefined`, `null` and `false`. */
export const shown = (children) =>
  children.flat(Number.POSITIVE_INFINITY).filter((child) => child !== undefined && child !== null && child !== false)

const svgTags = new Set(['svg', 'path', 'line', 'rect', 'circle', 'text', 'g', 'polyline', 'marker', 'defs', 'title'])

/** Times, sizes and shares for people. */
export const ms = (value) =>
  value === undefined || value === null
    ? '–'
    : value < 10
      ? `${value.toFixed(1)} ms`
      : value < 1000
        ? `${Math.round(value)} ms`
        : duration(value)

export function duration(value) {
  const seconds = value / 1000
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`
  if (seconds < 86_400) return `${(seconds / 3600).toFixed(1)} h`
  return `${Math.round(seconds / 86_400)} days`
}

export const ago = (at) =>
  at === undefined || at === null ? '–' : `${duration(Math.max(0, Date.now() - Number(new Date(at))))} ago`
/** A time that keeps saying how long ago it was. */
export const when = (at) =>
  at === undefined || at === null
    ? ''
    : h('time', { datetime: new Date(at).toISOString(), title: new Date(at).toISOString() }, ago(at))
export const percent = (share, digits = 0) =>
  share === undefined || share === null ? '–' : `${(share * 100).toFixed(digits)} %`
export const whole = (value) => (value === undefined || value === null ? '–' : Math.round(value).toLocaleString('en'))
export const rate = (value) =>
  value === undefined || value === null ? '–' : value < 10 ? value.toFixed(1) : whole(value)

export function bytes(value) {
  if (value === undefined || value === null) return '–'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, value)) / 10)))
  return `${(value / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`
}

/**
 * A table. Columns are `[head, cell, { number, wide }]`.
 * @param empty what stands there if there are no rows
 */
export function table(columns, rows, empty) {
  if (rows.length === 0) return h('p.empty', {}, empty)
  const classOf = ({ number, wide } = {}) => [number && 'number', wide && 'wide'].filter(Boolean).join(' ') || undefined
  return h(
    'div.scroll',
    { tabindex: 0, role: 'region', 'aria-label': columns.map(([head]) => head).join(', ') },
    h(
      'table',
      {},
      h(
        'thead',
        {},
        h('tr', {}, ...columns.map(([head, , how]) => h('th', { scope: 'col', class: classOf(how) }, head))),
      ),
      h(
        'tbody',
        {},
        ...rows.map((row) =>
          h('tr', {}, ...columns.map(([, cell, how]) => h('td', { class: classOf(how) }, cell(row)))),
        ),
      ),
    ),
  )
}

export const panel = (title, ...children) => h('section.panel', {}, h('h2', {}, title), ...children)
export const figure = (name, value, note) =>
  h('div.figure', {}, h('dt', {}, name), h('dd', {}, value), note && h('dd.note', {}, note))
export const figures = (...all) => h('dl.figures', {}, ...all)
export const badge = (level, text) => h(`span.badge.${level}`, {}, text)

/** A bar that is filled to this share; from 70 % on it warns, unless more is better. */
export function bar(share, label, { warns = true } = {}) {
  const inner = h('i', { class: !warns ? undefined : share > 0.9 ? 'bad' : share > 0.7 ? 'warn' : undefined })
  inner.style.width = `${Math.min(100, Math.max(0, share * 100))}%`
  return h('div.bar', { role: 'img', 'aria-label': `${label}: ${percent(share)}` }, inner)
}

/** What a page draws where a read model has not come yet, or cannot be read. */
export function of(readings, name, draw) {
  const reading = readings.get(name)
  if (!reading) return h('p.empty', {}, 'Reading …')
  if (reading.error) return h('p.empty', {}, reading.error.message)
  return draw(reading.view)
}

export const command = (text) => h('p.note', {}, 'The same in a terminal: ', h('code', {}, text))
/** A word of a command, quoted for a shell if it needs to be. */
export const quoted = (word) => (/^[\w./:@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)
/** Whether this may be the id of a trace or of a group of errors, or its beginning. Addresses can hold anything. */
export const isHexadecimal = (id) => /^[0-9a-f]+$/i.test(id)
/** A link to another page of the console. */
export const link = (to, text, attributes = {}) => h('a', { href: to, 'data-to': to, ...attributes }, text)
export const span = ({ low, high }, show = whole) =>
  Math.round(low) === Math.round(high) ? show(low) : `${show(low)}–${show(high)}`
