import { badge, command, h, ms, of, panel, percent, rate, table, when } from './dom.js'

/** What runs, how it hangs together, and how it is. */
export const topology = {
  path: '/topology',
  title: 'Topology',
  key: 't',
  views: () => ['fleet'],
  draw: (readings, tools) =>
    of(readings, 'fleet', (fleet) =>
      fleet.running
        ? [
            panel(titleOf(fleet, tools), fleet.parts.length > 0 && picture(fleet.parts)),
            panel('Parts', parts(fleet, tools), command('rung ps')),
            tools.acts && fleet.rung && scale(fleet, tools),
          ]
        : panel('Nothing runs here', h('p', {}, 'Start the app, and this page shows it: '), h('pre', {}, 'rung up 1k')),
    ),
}

/** Only a fleet of `rung up` has a rung: `rung start` and `rung dev` run the app alone. */
function titleOf({ rung, url, parts }, { app }) {
  if (rung) return url ? `${rung} at ${url}` : `${rung} is starting`
  const own = parts.find(isApp)
  return own ? `${app} at http://${own.address}` : `${app} does not run, but these parts do`
}

const levelOf = (part) => (part.state === 'running' ? (isRestarted(part) ? 'warn' : 'good') : 'bad')
/** By itself, and not because it was told to. */
const isRestarted = ({ restarts, reason }) => restarts > 0 && !told.includes(reason)
const told = ['was told to restart', 'gets another build from rung deploy']

/** Parts stand in columns in the way of a request. */
const columns = [
  ['edge', 'balancer'],
  ['app', 'web', 'both'],
  ['worker', 'redis', 'nats', 'pooler'],
  ['postgres', 'archiver'],
]
const kindOf = (name) => name.replace(/-\d+$/, '')
const columnOf = (name) => {
  const found = columns.findIndex((kinds) => kinds.includes(kindOf(name)))
  return found === -1 ? 2 : found
}

/** Which kinds ask which other ones. */
const asks = {
  edge: ['balancer', 'web', 'app'],
  balancer: ['web', 'app'],
  web: ['redis', 'pooler', 'postgres'],
  app: ['redis', 'nats', 'pooler', 'postgres'],
  worker: ['redis', 'nats', 'pooler', 'postgres'],
  pooler: ['postgres'],
  archiver: ['postgres'],
}

const [boxWidth, boxHeight, gapX, gapY] = [160, 46, 64, 12]

function picture(parts) {
  const kinds = new Set(parts.map(({ name }) => kindOf(name)))
  const byColumn = columns
    .map((_, index) => parts.filter(({ name }) => columnOf(name) === index))
    .filter((one) => one.length > 0)
  const rows = Math.max(...byColumn.map(({ length }) => length))
  const [width, height] = [byColumn.length * (boxWidth + gapX) - gapX, rows * (boxHeight + gapY)]
  const placeOf = new Map()
  byColumn.forEach((column, x) => {
    const top = (height - column.length * (boxHeight + gapY)) / 2
    column.forEach(({ name }, y) => {
      placeOf.set(name, { x: x * (boxWidth + gapX), y: top + y * (boxHeight + gapY) + gapY / 2 })
    })
  })
  const isReached = (kind, other) =>
    // A pooler stands between the app and its database, and a balancer between the edge and the app.
    !(other === 'postgres' && kind !== 'pooler' && kind !== 'archiver' && kinds.has('pooler')) &&
    !(kind === 'edge' && other !== 'balancer' && kinds.has('balancer'))
  const links = parts.flatMap(({ name }) =>
    (asks[kindOf(name)] ?? [])
      .filter((other) => isReached(kindOf(name), other))
      .flatMap((other) =>
        parts
          .filter((one) => kindOf(one.name) === other)
          .map((one) => {
            const [from, to] = [placeOf.get(name), placeOf.get(one.name)]
            const isSame = from.x === to.x
            const [x1, y1, x2, y2] = isSame
              ? [from.x + boxWidth / 2, from.y + boxHeight, to.x + boxWidth / 2, to.y]
              : [from.x + boxWidth, from.y + boxHeight / 2, to.x, to.y + boxHeight / 2]
            const bend = isSame ? 0 : (x2 - x1) / 2
            return h('path', { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` })
          }),
      ),
  )
  const boxes = parts.map((part) => {
    const { x, y } = placeOf.get(part.name)
    const facts = [
      part.state !== 'running' && part.state,
      part.role === 'replica' ? undefined : part.role,
      part.load !== undefined && `${percent(part.load)} CPU`,
      part.requestsPerSecond !== undefined && `${rate(part.requestsPerSecond)}/s`,
      part.lagMs !== undefined && `lag ${ms(part.lagMs)}`,
    ].filter(Boolean)
    return h(
      `g.${levelOf(part)}`,
      {},
      h('title', {}, `${part.name}: ${part.state}, ${facts.join(', ')}`),
      h('rect', { x, y, width: boxWidth, height: boxHeight, rx: 6 }),
      h(
        'text',
        { x: x + 10, y: y + 19 },
        [part.name, part.role === 'replica' && 'replica', part.zone].filter(Boolean).join(' · '),
      ),
      h('text.note', { x: x + 10, y: y + 36 }, facts.join(' · ')),
    )
  })
  const drawing = h(
    'svg.topology',
    {
      viewBox: `-1 -1 ${width + 2} ${height + 2}`,
      role: 'img',
      'aria-label': 'Parts of the fleet, in the way of a request',
    },
    ...links,
    ...boxes,
  )
  drawing.style.maxWidth = `${width * 1.25}px`
  drawing.style.minWidth = `${width * 0.8}px`
  return h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': 'Picture of the fleet' }, drawing)
}

/** Buttons for one more or one less. Setting a number ends autoscaling of it. */
function scale({ parts, scaling = {} }, { act }) {
  const count = countsOf(parts)
  const [first] = Object.keys(count)
  if (first === undefined) return ''
  const least = { web: 1, worker: 0, replicas: 0 }
  const to = (name, number) =>
    act('scale', { [name]: String(number) }, `Scale ${name} from ${count[name]} to ${number}?`)
  const button = (name, label, number) =>
    h(
      'button',
      {
        id: `scale-${name}-${label}`,
        disabled: number < least[name],
        'aria-label': `${label} ${name}`,
        onclick: () => to(name, number),
      },
      label === 'less' ? '−' : '+',
    )
  const numbers = Object.entries(count).map(([name, number]) =>
    h(
      'div.figure',
      {},
      h('dt', {}, name),
      h('dd', {}, button(name, 'less', number - 1), ` ${number} `, button(name, 'more', number + 1)),
      scaling[name] && h('dd.note', {}, `${scaling[name].least} to ${scaling[name].most}, autoscaled`),
    ),
  )
  return panel('Scale', h('dl.figures', {}, ...numbers), command(`rung scale ${first}=${count[first] + 1}`))
}

/** What a fleet with these parts can change while it runs; see `checkScale`. */
function countsOf(parts) {
  const number = (kind) => parts.filter(({ name }) => kindOf(name) === kind).length
  if (number('app') > 0) return {} // it answers requests, and runs the jobs
  const replicas = parts.filter(({ role }) => role === 'replica').length
  return { ...(number('balancer') > 0 && { web: number('web'), replicas }), worker: number('worker') }
}

const isApp = ({ name }) => ['app', 'web', 'worker'].includes(kindOf(name))

function parts({ parts: all, rung }, { acts, act }) {
  return table(
    [
      ['part', ({ name }) => name],
      ['state', (part) => badge(levelOf(part), part.state)],
      ['role', ({ role }) => role ?? ''],
      ['load', ({ load }) => (load === undefined ? '' : percent(load)), { number: true }],
      ['requests/s', ({ requestsPerSecond: value }) => (value === undefined ? '' : rate(value)), { number: true }],
      ['lag', ({ lagMs }) => (lagMs === undefined ? '' : ms(lagMs)), { number: true }],
      ['restarts', ({ restarts, reason }) => h('span', { title: reason }, String(restarts)), { number: true }],
      ['since', ({ since }) => when(since)],
      ['process', ({ pid }) => String(pid ?? ''), { number: true }],
      ['build', ({ build }) => build ?? ''],
      ...(acts && rung // a supervisor is needed
        ? [
            [
              '',
              (part) =>
                h(
                  'div.controls',
                  {},
                  isApp(part) &&
                    h(
                      'button',
                      { id: `restart-${part.name}`, onclick: () => act('restart', { part: part.name }) },
                      'Restart',
                    ),
                  h(
                    'button',
                    {
                      id: `kill-${part.name}`,
                      onclick: () =>
                        act('kill', { part: part.name }, `Kill ${part.name}? Its requests fail, as in a crash.`),
                    },
                    'Kill',
                  ),
                ),
            ],
          ]
        : []),
    ],
    all,
    'Nothing runs.',
  )
}
