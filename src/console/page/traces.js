import { badge, command, h, isHexadecimal, ms, of, panel, quoted, table, when, whole } from './dom.js'

export const traces = {
  path: '/traces',
  title: 'Traces',
  key: 'w',
  views: (query) => {
    const id = query.get('id')
    return [id === null ? `traces?${wanted(query)}` : `trace?id=${encodeURIComponent(id)}`]
  },
  draw: (readings, tools) => {
    const query = tools.query()
    const id = query.get('id')
    if (id !== null) return one(readings, id)
    return [
      filters(tools),
      panel(
        'The last requests and jobs',
        of(readings, 'traces', list),
        command(['rung traces', ...[...wanted(query)].map(([name, value]) => optionOf(name, value))].join(' ')),
      ),
    ]
  },
}

const optionOf = (name, value) => (value === '' ? `--${name}` : `--${name} ${quoted(value)}`)

/** What of the address is a filter. */
function wanted(query) {
  const found = ['route', 'slow', 'failed'].filter((name) => query.has(name)).map((name) => [name, query.get(name)])
  return new URLSearchParams(found)
}

const choices = [
  ['All', ''],
  ['From 100 ms', 'slow=100ms'],
  ['From 1 s', 'slow=1s'],
  ['Failed', 'failed='],
]

/** Made once: what is being typed outlives the next drawing. */
let route

function filters({ query, go }) {
  const chosen = wanted(query())
  const to = (filter) => {
    const next = new URLSearchParams(filter)
    if (route.value.trim() !== '') next.set('route', route.value.trim())
    go(`/traces?${next}`)
  }
  const rest = new URLSearchParams([...chosen].filter(([name]) => name !== 'route')).toString()
  if (!route) {
    route = h('input', { id: 'route', type: 'search', placeholder: 'articles', autocomplete: 'off', size: 16 })
    route.value = chosen.get('route') ?? ''
  } else if (document.activeElement !== route) route.value = chosen.get('route') ?? ''
  return h(
    'form.controls',
    {
      role: 'search',
      'aria-label': 'Traces',
      onsubmit: (event) => {
        event.preventDefault()
        to(rest)
      },
    },
    h('label', { for: 'route' }, 'Route'),
    route,
    h('button', { id: 'show' }, 'Show'),
    ...choices.map(([text, filter]) =>
      h(
        'button',
        {
          id: `only-${text.replaceAll(' ', '-')}`,
          type: 'button',
          'aria-pressed': String(rest === filter),
          class: rest === filter ? 'primary' : undefined,
          onclick: () => to(filter),
        },
        text,
      ),
    ),
  )
}

const timeOf = (at) => new Date(at).toLocaleTimeString('en', { hourCycle: 'h23' })
const notAnswered = (names) => names.length > 0 && h('p.note', {}, `Did not answer: ${names.join(', ')}.`)
const nameOf = ({ kind, name }) => (kind === 'request' ? name : `${kind} ${name}`)
const outcomeOf = ({ outcome, failed }) =>
  badge(failed ? 'bad' : /^4/.test(outcome) ? 'warn' : /^[23]|^done$/.test(outcome) ? 'good' : 'plain', outcome)

function list({ traces: all, sampledUntil, unread }) {
  return [
    table(
      [
        ['time', ({ startedAt }) => when(startedAt)],
        ['status', outcomeOf],
        [
          'route',
          (one) => {
            const to = `/traces?id=${one.traceId}`
            return [
              h('a', { href: to, 'data-to': to }, nameOf(one)),
              one.others > 0 && h('span.note', {}, ` and ${one.others} more`),
            ]
          },
          { wide: true },
        ],
        ['took', (one) => ms(one.ms), { number: true }],
        ['statements', ({ statements }) => whole(statements), { number: true }],
        [
          'cache',
          ({ cacheReads, cacheHits }) => (cacheReads > 0 ? `${cacheHits}/${cacheReads}` : ''),
          { number: true },
        ],
        ['process', ({ process }) => process],
      ],
      all,
      'No kept trace matches. Send a request to the app to see one.',
    ),
    sampledUntil !== null &&
      h(
        'p.note',
        {},
        `All are kept since ${timeOf(sampledUntil)}; before, only failed and slow ones, and one trace of sixteen.`,
      ),
    notAnswered(unread),
  ]
}

const one = (readings, id) => [
  h('p', {}, h('a', { href: '/traces', 'data-to': '/traces' }, '← All traces')),
  panel(
    `Trace ${id.slice(0, 8)}`,
    of(readings, 'trace', waterfall),
    isHexadecimal(id) && [
      command(`rung traces ${id}`),
      h('p.note', {}, 'What was logged: ', h('code', {}, `rung logs --trace ${id}`)),
    ],
  ),
]

function waterfall({ startedAt, ms: took, idleMs, units, leftOut, unread }) {
  const idle = idleMs >= 1 ? `; for ${ms(idleMs)} of it nothing ran, which is not drawn` : ''
  return [
    h('p', {}, when(startedAt), ` · ${ms(took)}${idle}`),
    h(
      'ol.waterfall',
      {},
      ...units.flatMap((unit, index) => [
        line(
          'unit',
          unit,
          h('strong', {}, nameOf(unit)),
          ' ',
          outcomeOf(unit),
          h('span.note', {}, ` ${unit.process}${unit.module ? ` · ${unit.module}` : ''}`),
        ),
        ...unit.steps.map((step, at) => line(classOf(step), step, ...stepOf(step, `${index}-${at}`))),
        unit.leftOut > 0 && h('li.note', {}, `and ${unit.leftOut} more steps, which are not kept`),
      ]),
    ),
    leftOut > 0 && h('p.note', {}, `And ${whole(leftOut)} earlier requests and runs, which are not shown.`),
    notAnswered(unread),
  ]
}

const classOf = ({ kind, inLoad, failed }) => [kind, inLoad && 'inner', failed && 'failed'].filter(Boolean).join('.')

function line(classes, { from, share, atMs, ms: took }, ...what) {
  const mark = h('i', {})
  mark.style.left = `${from * 100}%`
  mark.style.width = `${share * 100}%`
  return h(
    `li.${classes}`,
    {},
    h('div.what', {}, ...what),
    h('div.track', { 'aria-hidden': 'true' }, mark),
    h('div.times', {}, h('span', {}, ms(took)), h('span.note', {}, ` from ${ms(atMs)}`)),
  )
}

function stepOf({ kind, name, text, outcome, count, waitMs, rows, failed }, id) {
  if (kind !== 'statement') return [`${kind} `, h('code', {}, name), ` ${outcome}${count > 1 ? ` ×${count}` : ''}`]
  return [
    h('code.sql', { id: `sql-${id}`, tabindex: 0 }, text ?? name),
    h(
      'span.note',
      {},
      failed ? outcome : `${whole(rows)} ${rows === 1 ? 'row' : 'rows'}`,
      waitMs >= 1 ? `, waited ${ms(waitMs)} for a connection` : '',
    ),
  ]
}
