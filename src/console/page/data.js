import {
  badge,
  bar,
  bytes,
  command,
  figure,
  figures,
  h,
  ms,
  of,
  panel,
  percent,
  quoted,
  table,
  when,
  whole,
} from './dom.js'
import { windowChoice } from './traffic.js'

export const data = {
  path: '/data',
  title: 'Data',
  key: 'b',
  views: (query) => ['doctor', 'topology', `record?since=${since(query)}`, `statements?since=${since(query)}&last=100`],
  draw: (readings, tools) => [
    panel(
      'Database',
      of(readings, 'doctor', ({ server }) => facts(server, readings.get('topology')?.view)),
      command('rung doctor'),
    ),
    windowChoice(tools),
    h(
      'div.grid',
      {},
      panel(
        'Pools of the app',
        of(readings, 'record', ({ window }) => pools(window)),
        command(`rung record --since ${quoted(since(tools.query()))} --json`),
      ),
      panel(
        'Replicas',
        of(readings, 'record', ({ window }) => replicas(window)),
      ),
    ),
    panel(
      'Slow statements',
      of(readings, 'statements', (all) => slow(all.filter(({ kind }) => kind !== 'n-plus-one'))),
      command('rung statements'),
    ),
    panel(
      'N+1: one statement again and again in one request or job',
      of(readings, 'statements', (all) => again(all.filter(({ kind }) => kind === 'n-plus-one'))),
      command('rung statements --kind n-plus-one'),
    ),
    panel(
      'What the doctor finds: indexes, sizes, settings',
      of(readings, 'doctor', ({ findings }) => list(findings)),
    ),
    h(
      'div.grid',
      {},
      panel(
        'Largest tables',
        of(readings, 'doctor', ({ tables }) => sizes(tables)),
        command('rung doctor --json'),
      ),
      panel(
        'Servers and processes',
        of(readings, 'record', ({ window }) => servers(window)),
        command('rung record'),
      ),
    ),
  ],
}

const since = (query) => query.get('since') ?? '1h'
const nothingYet = 'Nothing was recorded yet: the app records each whole minute.'

const facts = (server, topology) => {
  const reads = server.pagesHit + server.pagesRead
  const needed = topology?.connectionsNeeded
  return [
    figures(
      figure('Postgres', server.version.split(' ')[0]),
      figure('size', bytes(server.sizeBytes)),
      figure('replicas', String(server.replicas)),
      figure('pages from memory', reads > 0 ? percent(server.pagesHit / reads, 1) : '–'),
      figure(
        'connections in use',
        `${server.connectionsUsed} of ${server.connectionsMax}`,
        needed === undefined ? '' : `the fleet needs at most ${needed}`,
      ),
    ),
    bar(server.connectionsUsed / server.connectionsMax, 'connections in use'),
  ]
}

const pools = (window) =>
  table(
    [
      ['for', ({ database, target }) => (database === 'main' ? target : `${target} of ${database}`)],
      ['processes', ({ processes }) => whole(processes), { number: true }],
      ['size', ({ size }) => whole(size), { number: true }],
      ['in use', ({ busy }) => (busy > 0 && busy < 10 ? busy.toFixed(1) : whole(busy)), { number: true }],
      ['most in one', ({ busyMax }) => whole(busyMax), { number: true }],
      [
        'most that waited',
        ({ waitingMax }) => (waitingMax > 0 ? badge('warn', whole(waitingMax)) : '0'),
        { number: true },
      ],
      ['95 of 100 waited', ({ waitMs95 }) => ms(waitMs95), { number: true }],
    ],
    window?.pools ?? [],
    nothingYet,
  )

const replicas = (window) =>
  table(
    [
      ['replica', ({ database, server }) => (database === 'main' ? server : `${server} of ${database}`)],
      ['behind by', ({ lagMs }) => ms(lagMs), { number: true }],
      ['most', ({ lagMsMax }) => ms(lagMsMax), { number: true }],
      [
        'took reads',
        ({ inRotation }) => (inRotation < 1 ? badge('warn', percent(inRotation)) : percent(inRotation)),
        { number: true },
      ],
    ],
    window?.replicas ?? [],
    window ? 'No replica was read in this window. Rung 100k has them.' : nothingYet,
  )

/** Open ones stay open when the page is drawn again, by their id. */
const opened = new Set()
function details(id, summary, ...children) {
  const element = h('details', { open: opened.has(id) }, h('summary', { id }, summary), ...children)
  element.addEventListener('toggle', () => (element.open ? opened.add(id) : opened.delete(id)))
  return element
}

const statementOf = ({ fingerprint, statement, plan, firstAt }) =>
  details(
    `statement-${fingerprint}`,
    h('code', {}, statement.replace(/\s+/g, ' ').trim().slice(0, 120)),
    h('pre', { tabindex: 0 }, statement.trim()),
    plan === null
      ? h('p.note', {}, 'Its plan is not known: a SELECT is explained when it is slow, by Postgres 16 or newer.')
      : [h('h3', {}, 'Plan'), h('pre', { tabindex: 0 }, plan)],
    h(
      'p.note',
      {},
      'First seen ',
      when(firstAt),
      '. The same in a terminal: ',
      h('code', {}, `rung statements ${fingerprint}`),
    ),
  )

const whereOf = ({ route, module }) => [route || 'no request or job', module && h('div.note', {}, `module ${module}`)]

const slow = (all) =>
  table(
    [
      ['statement', statementOf, { wide: true }],
      ['total', ({ totalMs }) => ms(totalMs), { number: true }],
      ['worst', ({ worstMs }) => ms(worstMs), { number: true }],
      ['times', ({ count }) => whole(count), { number: true }],
      ['rows each', ({ rows, count }) => whole(rows / count), { number: true }],
      ['where', (one) => [whereOf(one), one.kind === 'lock-wait' && badge('warn', 'gave up waiting for a lock')]],
      ['last', ({ at }) => when(at)],
    ],
    all,
    'No statement took 100 ms or more in this window.',
  )

const again = (all) =>
  table(
    [
      ['statement', statementOf, { wide: true }],
      ['requests or jobs', ({ count }) => whole(count), { number: true }],
      ['where', whereOf],
      ['in the code', ({ site }) => h('code', { title: site }, site.split('/').slice(-2).join('/')), { wide: true }],
      ['last', ({ at }) => when(at)],
    ],
    all,
    'No request and no job ran a statement ten times or more in this window.',
  )

const list = (findings) =>
  table(
    [
      ['', ({ severity }) => badge(severity === 'act' ? 'bad' : severity === 'look' ? 'warn' : 'plain', severity)],
      ['what', ({ what, gain }) => [h('strong', {}, what), h('div.note', {}, gain)], { wide: true }],
      [
        'what to run',
        ({ sql, migration }) => [h('pre', { tabindex: 0 }, sql), migration && h('div.note', {}, migration)],
        { wide: true },
      ],
    ],
    findings,
    'Nothing: indexes, statements, sizes and settings are as they should be.',
  )

const sizes = (tables) =>
  table(
    [
      ['table', ({ name }) => name, { wide: true }],
      ['rows, about', ({ rows }) => whole(rows), { number: true }],
      ['data', ({ sizeBytes }) => bytes(sizeBytes), { number: true }],
      ['indexes', ({ indexBytes }) => bytes(indexBytes), { number: true }],
    ],
    tables.slice(0, 10),
    'There are no tables yet.',
  )

const servers = (window) =>
  table(
    [
      ['server', ({ server, node, role }) => server ?? `${role ?? 'process'} ${node}`, { wide: true }],
      ['CPU, cores', ({ cores }) => cores.toFixed(2), { number: true }],
      ['event loop', ({ loop }) => (loop === undefined ? '' : percent(loop)), { number: true }],
      ['memory', ({ memoryBytes }) => bytes(memoryBytes), { number: true }],
      ['most', ({ memoryBytesMax }) => bytes(memoryBytesMax), { number: true }],
    ],
    window ? [...window.servers, ...window.nodes] : [],
    nothingYet,
  )
