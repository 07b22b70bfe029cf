import { chart } from './chart.js'
import { command, figure, figures, h, of, panel, percent, span, table } from './dom.js'

export const capacity = {
  path: '/capacity',
  title: 'Capacity and cost',
  key: 'c',
  views: () => ['plan', 'cost', 'series?since=7d'],
  draw: (readings) => [
    h(
      'div.grid',
      {},
      panel('Forecast', of(readings, 'plan', forecast), command('rung plan')),
      panel('What is used up first', of(readings, 'plan', stations)),
    ),
    panel(
      'Requests in the last seven days, and the ceiling',
      of(readings, 'series', (steps) => curve(steps, readings.get('plan')?.view)),
    ),
    h(
      'div.grid',
      {},
      panel('Cost of a month', of(readings, 'cost', costs), command('rung cost')),
      panel('By route', of(readings, 'cost', shares)),
    ),
  ],
}

const money = ({ low, high }) =>
  `$${span({ low, high }, (value) => (value < 10 ? value.toFixed(2) : Math.round(value).toLocaleString('en')))}`

const forecast = ({ ceiling, says, isCalibrated, measured }) => [
  figures(
    figure(
      'ceiling',
      `${Math.round(ceiling.likely)} requests/s`,
      `${Math.round(ceiling.low)} to ${Math.round(ceiling.high)}`,
    ),
    figure('costs are from', measured ? `a load test at ${measured.rung}` : isCalibrated ? 'production' : 'priors'),
  ),
  h('ul', {}, ...says.map((one) => h('li', {}, one))),
]

const stations = ({ stations: all }) =>
  table(
    [
      ['part', ({ name }) => name],
      ['has', ({ has }) => String(has), { number: true }],
      ['ms a request', ({ demandMs }) => demandMs?.likely.toFixed(2) ?? '', { number: true }],
      ['holds, requests/s', ({ rateMax }) => span(rateMax), { number: true }],
      ['is first', ({ first }) => percent(first), { number: true }],
    ],
    all.toSorted((a, b) => b.first - a.first),
    'Nothing is known yet.',
  )

const curve = (steps, plan) => {
  const level = (value) => steps.map(() => value)
  const lines = [{ label: 'requests/s', values: steps.map(({ requestsPerSecond }) => requestsPerSecond) }]
  if (plan)
    lines.push(
      { label: 'ceiling (low)', values: level(plan.ceiling.low) },
      { label: 'ceiling (likely)', values: level(plan.ceiling.likely) },
    )
  return chart(
    steps.map(({ from }) => from / 1000),
    lines,
  )
}

const costs = ({ cost, band, per10k, list, assumed }) => [
  figures(
    figure('a month', money(cost)),
    figure('for 10,000 users', per10k ? money(per10k) : '–'),
    figure('prices', list.name),
  ),
  table(
    [
      ['part', ({ part }) => part, { wide: true }],
      ['number', ({ count }) => String(count), { number: true }],
      ['a month', (line) => money(line), { number: true }],
      ['source', ({ price }) => h('span.note', {}, `${price.source}, ${price.date}`), { wide: true }],
    ],
    cost.lines,
    'No price is known.',
  ),
  h('p.note', {}, band ?? ''),
  h('ul.note', {}, ...assumed.map((one) => h('li', {}, one))),
]

const shares = ({ routes }) =>
  table(
    [
      ['route', ({ name }) => name, { wide: true }],
      ['share', ({ share }) => percent(share), { number: true }],
      ['a month', (one) => money(one), { number: true }],
    ],
    routes,
    'Nothing was recorded yet.',
  )
