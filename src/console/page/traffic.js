import { chart } from './chart.js'
import { bar, command, h, ms, of, panel, percent, rate, table, when, whole } from './dom.js'

const windows = ['1h', '6h', '24h', '7d', '28d']

/** A choice of the window, in the address. */
export function windowChoice({ query, go }, otherwise = '1h') {
  const chosen = query().get('since') ?? otherwise
  return h(
    'div.controls',
    { role: 'group', 'aria-label': 'Window' },
    ...windows.map((one) =>
      h(
        'button',
        {
          id: `since-${one}`,
          'aria-pressed': String(one === chosen),
          class: one === chosen ? 'primary' : undefined,
          onclick: () => go(`${location.pathname}?since=${one}`),
        },
        one,
      ),
    ),
  )
}

export const traffic = {
  path: '/traffic',
  title: 'Traffic',
  key: 'r',
  views: (query) => {
    const since = query.get('since') ?? '1h'
    return [`series?since=${since}`, `record?since=${since}`, 'cost', 'load']
  },
  draw: (readings, tools) => [
    windowChoice(tools),
    h(
      'div.grid',
      {},
      panel('Requests and errors per second', of(readings, 'series', requestsChart)),
      panel('95 of 100 answers within, in ms', of(readings, 'series', timesChart)),
    ),
    panel(
      'Routes',
      of(readings, 'record', ({ window }) => routes(window, readings.get('cost')?.view)),
      command('rung record'),
    ),
    panel('Journeys of the last load test', of(readings, 'load', journeys), command('rung load last')),
    of(readings, 'record', ({ window }) =>
      window && window.pages.length > 0 ? panel('Pages, as readers’ browsers saw them', pages(window)) : '',
    ),
  ],
}

const timesOf = (steps) => steps.map(({ from }) => from / 1000)
const requestsChart = (steps) =>
  chart(timesOf(steps), [
    { label: 'requests/s', values: steps.map(({ requestsPerSecond }) => requestsPerSecond) },
    { label: 'errors/s', values: steps.map(({ from, to, failed }) => failed / ((to - from) / 1000)) },
  ])
const timesChart = (steps) =>
  chart(timesOf(steps), [{ label: 'p95', unit: ' ms', values: steps.map(({ p95Ms }) => p95Ms) }])

function routes(window, cost) {
  if (!window) return h('p.empty', {}, 'Nothing was recorded yet: the app records each whole minute.')
  const shares = new Map((cost?.routes ?? []).map(({ name, share }) => [name, share]))
  return table(
    [
      ['route', ({ route }) => route, { wide: true }],
      ['requests', ({ requests }) => whole(requests), { number: true }],
      ['per second', ({ requestsPerSecond }) => rate(requestsPerSecond), { number: true }],
      ['p50', ({ p50Ms }) => ms(p50Ms), { number: true }],
      ['p95', ({ p95Ms }) => ms(p95Ms), { number: true }],
      ['p99', ({ p99Ms }) => ms(p99Ms), { number: true }],
      ['errors', ({ errors, requests }) => percent(errors / requests, 2), { number: true }],
      ['share of the cost', ({ route }) => (shares.has(route) ? bar(shares.get(route), `cost of ${route}`) : '')],
    ],
    window.routes,
    'No requests in this window.',
  )
}

/** The record knows requests and not who made them one after another; a load test does. */
function journeys(loaded) {
  if (!loaded) return h('p.empty', {}, 'No load test was run here yet: ', h('code', {}, 'rung load init && rung load'))
  return [
    h('p.note', {}, when(loaded.at), ` · ${loaded.scenario} at ${loaded.url}`),
    table(
      [
        ['journey', ([name]) => name, { wide: true }],
        ['journeys', ([, { count }]) => whole(count), { number: true }],
        ['per second', ([, one]) => rate(one.rate), { number: true }],
        ['p50', ([, { p50 }]) => ms(p50), { number: true }],
        ['p95', ([, { p95 }]) => ms(p95), { number: true }],
        ['p99', ([, { p99 }]) => ms(p99), { number: true }],
        ['failed', ([, { failing }]) => percent(failing, 2), { number: true }],
      ],
      Object.entries(loaded.byJourney),
      'It had no journeys.',
    ),
  ]
}

function pages({ pages: all }) {
  return table(
    [
      ['page', ({ page }) => page, { wide: true }],
      ['reports', ({ reports }) => whole(reports), { number: true }],
      ...['lcpMs', 'inpMs', 'fcpMs', 'ttfbMs'].map((key) => [
        key.replace('Ms', '').toUpperCase(),
        (page) => ms(page[key]),
        { number: true },
      ]),
      ['CLS', ({ cls }) => cls?.toFixed(2) ?? '–', { number: true }],
    ],
    all,
    'No browser has reported.',
  )
}
