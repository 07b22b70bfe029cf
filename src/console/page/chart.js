import { h } from './dom.js'
import uPlot from './uplot.js'

const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
const day = new Intl.DateTimeFormat('en', { month: 'short', day: 'numeric' })
const isLong = (seconds) => seconds > 172_800
const timeText = (seconds) => (at) => (isLong(seconds) ? day : clock).format(at * 1000)

/** Seconds between labels: each differs from the one before, as they show minutes or days only. */
const minuteSteps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440].map((minutes) => minutes * 60)
const daySteps = [1, 2, 4, 7, 14, 28].map((days) => days * 86_400)

const series = Array.from({ length: 8 }, (_, index) => `--series-${index + 1}`)

/** Charts that exist: the library keeps each until it is destroyed. */
const charts = new Set()

/**
 * A chart over time.
 * @param times seconds since the epoch
 * @param lines `[{ label, values, unit }]`, with `null` where nothing is known
 */
export function chart(times, lines, { height = 180 } = {}) {
  const box = h('div.chart', { role: 'img', 'aria-label': lines.map(({ label }) => label).join(', ') })
  if (times.length < 2) {
    box.append(h('p.empty', {}, 'A chart needs two minutes of the record at least.'))
    return box
  }
  const style = getComputedStyle(document.documentElement)
  const colour = (name) => style.getPropertyValue(name).trim()
  // A canvas knows no light-dark(): an element with that colour does.
  const probe = h('i')
  document.body.append(probe)
  const resolved = (name) => {
    probe.style.color = colour(name)
    return getComputedStyle(probe).color
  }
  const [ink, line] = [resolved('--quiet'), resolved('--line')]
  const strokes = series.map(resolved)
  probe.remove()
  const axis = {
    stroke: ink,
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line, width: 1 },
    font: `11px ${colour('--font')}`,
  }
  const options = {
    width: 320,
    height,
    cursor: { y: false },
    legend: { live: true },
    scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [
      {
        ...axis,
        incrs: isLong(times.at(-1) - times[0]) ? daySteps : minuteSteps,
        values: (_, splits) => splits.map(timeText(times.at(-1) - times[0])),
      },
      { ...axis, size: 56 },
    ],
    series: [
      { value: (_, at) => (at === null || at === undefined ? '–' : timeText(0)(at)) },
      ...lines.map(({ label, unit = '' }, index) => ({
        label,
        stroke: strokes[index % strokes.length],
        width: 1.5,
        fill: index === 0 ? strokes[0].replace(')', ' / 0.1)').replaceAll(',', '') : undefined,
        value: (_, value) =>
          value === null || value === undefined ? '–' : `${value < 10 ? value.toFixed(2) : Math.round(value)}${unit}`,
      })),
    ],
  }
  const plot = new uPlot(options, [times, ...lines.map(({ values }) => values)], box)
  const resize = new ResizeObserver(([{ contentRect }]) => {
    plot.setSize({ width: Math.max(200, contentRect.width), height })
  })
  resize.observe(box)
  charts.add({ box, plot, resize })
  return box
}

/** Ends the charts that are no longer in the document. */
export function endUnseenCharts() {
  for (const one of charts) {
    if (one.box.isConnected) continue
    one.resize.disconnect()
    one.plot.destroy()
    charts.delete(one)
  }
}
