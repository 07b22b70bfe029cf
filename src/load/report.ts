import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tokens } from '../kernel/tokens.ts'
import type { Figures } from './summary.ts'

/** A page that stands for itself: it loads nothing, and can be kept or sent. */
export interface Report {
  title: string
  /** Below the title: when, where, what. */
  lines: readonly string[]
  /** The most important figures, large. */
  figures: readonly { name: string; value: string; note?: string }[]
  charts: readonly Chart[]
  tables: readonly Table[]
}

/** Lines over the same x. `null` is a gap. */
export interface Chart {
  title: string
  /** What x counts: `s`, `journeys/s`. */
  unitX: string
  unitY: string
  x: readonly number[]
  lines: readonly { name: string; values: readonly (number | null)[] }[]
  /** Stretches of x, shown as grey bands. */
  bands?: readonly { name: string; from: number; to: number }[]
}

export interface Table {
  title: string
  heads: readonly string[]
  /** Cells beside the first are aligned to the right. */
  rows: readonly (readonly string[])[]
  /** Cells with one of these texts stand out. */
  bad?: readonly string[]
}

const seriesMax = 8 // --series-1 to --series-8

/** Returns the page. uPlot, its charts and all data are in it. */
export async function htmlReport(report: Report): Promise<string> {
  const { resolve } = createRequire(import.meta.url)
  const [script, style] = await Promise.all(
    ['uPlot.iife.min.js', 'uPlot.min.css'].map((file) => readFile(resolve(`uplot/dist/${file}`), 'utf8')),
  )
  const { title, lines, figures, charts, tables } = report
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>${text(title)}</title>
<style>${tokens()}${style}${pageStyle}</style>
<main>
<h1>${text(title)}</h1>
${lines.map((line) => `<p>${text(line)}</p>`).join('\n')}
<dl>${figures.map(({ name, value, note = '' }) => `<div><dt>${text(name)}</dt><dd>${text(value)} <small>${text(note)}</small></dd></div>`).join('')}</dl>
${charts.map((chart, index) => `<h2>${text(chart.title)}</h2><div class="chart" id="chart-${index}"></div>`).join('\n')}
${tables.map(tableOf).join('\n')}
</main>
<script>${script}</script>
<script>${drawing(charts)}</script>
</html>
`
}

/** The columns of a table of figures, and its rows. */
export function figuresTable(title: string, figures: Readonly<Record<string, Figures>>): Table {
  return {
    title,
    heads: ['', 'count', 'per s', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms', 'failures'],
    rows: Object.entries(figures).map(([name, { count, rate, p50, p95, p99, max, failures }]) => [
      ...[name, String(count), short(rate), short(p50), short(p95), short(p99), short(max)],
      failuresText(failures) || '0',
    ]),
  }
}

/** Three digits are enough: `0.42`, `12.3`, `1,240`. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '-'
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toLocaleString('en-US', { maximumFractionDigits: Math.min(3, digits) })
}

/** `503 × 12, timeout × 3`, the most frequent first. */
export function failuresText(failures: Readonly<Record<string, number>>): string {
  return Object.entries(failures)
    .sort(([, a], [, b]) => b - a)
    .map(([kind, count]) => `${kind} × ${count}`)
    .join(', ')
}

function tableOf({ title, heads, rows, bad = [] }: Table): string {
  const row = (cells: readonly string[], tag: 'td' | 'th') =>
    `<tr>${cells.map((cell) => `<${tag}${bad.includes(cell) ? ' class="bad"' : ''}>${text(cell)}</${tag}>`).join('')}</tr>`
  return `<h2>${text(title)}</h2>
<div class="table" tabindex="0" role="region" aria-label="${text(title)}"><table><thead>${row(heads, 'th')}</thead><tbody>${rows.map((cells) => row(cells, 'td')).join('')}</tbody></table></div>`
}

function text(raw: string): string {
  return raw.replace(/[&<>"]/g, (one) => `&#${one.codePointAt(0)};`)
}

/** The data are the reader's own words too (routes, failures): `<` must not end the script. */
function drawing(charts: readonly Chart[]): string {
  const data = JSON.stringify(charts.map((chart) => ({ bands: [], ...chart }))).replace(/</g, '\\u003c')
  return `
// A canvas knows no light-dark(): an element with that colour does.
const probe = document.body.appendChild(document.createElement('i'))
const resolved = (token) => {
  probe.style.color = 'var(' + token + ')'
  return getComputedStyle(probe).color
}
const strokes = Array.from({ length: ${seriesMax} }, (_, n) => resolved('--series-' + (n + 1)))
const [quiet, line, raised, ground] = ['--quiet', '--line', '--raised', '--ground'].map(resolved)
const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } }
const charts = ${data}
charts.forEach((chart, index) => {
  const place = document.getElementById('chart-' + index)
  const bands = { hooks: { drawClear: [(plot) => {
    const { ctx, bbox } = plot
    ctx.save()
    for (const { name, from, to } of chart.bands) {
      const [a, b] = [plot.valToPos(from, 'x', true), plot.valToPos(to, 'x', true)]
      ctx.fillStyle = raised
      ctx.fillRect(a, bbox.top, Math.max(2, b - a), bbox.height)
      ctx.fillStyle = quiet
      ctx.fillText(name, a + 4, bbox.top + 14)
    }
    ctx.restore()
  }] } }
  const plot = new uPlot({
    width: place.clientWidth, height: 240,
    scales: { x: { time: false } },
    axes: [{ ...axis, label: chart.unitX }, { ...axis, label: chart.unitY, size: 70 }],
    series: [{ label: chart.unitX }, ...chart.lines.map(({ name }, n) => ({ label: name, stroke: strokes[n % strokes.length], width: 1.5, spanGaps: false, points: { fill: ground } }))],
    plugins: [bands],
  }, [chart.x, ...chart.lines.map(({ values }) => values)], place)
  addEventListener('resize', () => plot.setSize({ width: place.clientWidth, height: 240 }))
})`
}

const pageStyle = `
body{margin:0;font:var(--text-m)/1.5 var(--font);color:var(--ink);background:var(--ground)}
main{max-width:60rem;margin:0 auto;padding:var(--space-5) var(--space-4)}
h1{font-size:var(--text-xl);line-height:1.2;margin:0 0 var(--space-2)}h2{font-size:var(--text-l);margin:var(--space-6) 0 var(--space-2)}p{margin:2px 0;color:var(--quiet)}
dl{display:flex;flex-wrap:wrap;gap:var(--space-3) var(--space-6);margin:var(--space-5) 0}dt{color:var(--quiet);font-size:var(--text-s)}dd{margin:0;font-size:1.375rem}small{font-size:var(--text-s);color:var(--quiet)}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{padding:var(--space-1) var(--space-2);border-bottom:1px solid var(--line);text-align:right;vertical-align:top;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left;padding-left:0}thead th{color:var(--quiet);font-weight:500}.bad{color:var(--bad);font-weight:600}`
