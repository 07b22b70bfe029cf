import { badge, bar, bytes, command, figure, figures, h, of, panel, percent, table } from './dom.js'

export const data = {
  path: '/data',
  title: 'Data',
  key: 'b',
  views: () => ['doctor', 'record?since=1h'],
  draw: (readings) => [
    panel(
      'Database',
      of(readings, 'doctor', ({ server }) => facts(server)),
      command('rung doctor'),
    ),
    panel(
      'What the doctor finds',
      of(readings, 'doctor', ({ findings }) => list(findings)),
    ),
    panel(
      'Servers in the last hour',
      of(readings, 'record', ({ window }) => servers(window)),
    ),
  ],
}

const facts = (server) => {
  const reads = server.pagesHit + server.pagesRead
  return [
    figures(
      figure('Postgres', server.version),
      figure('size', bytes(server.sizeBytes)),
      figure('replicas', String(server.replicas)),
      figure('pages from memory', reads > 0 ? percent(server.pagesHit / reads, 1) : '–'),
      figure('connections', `${server.connectionsUsed} of ${server.connectionsMax}`),
    ),
    bar(server.connectionsUsed / server.connectionsMax, 'connections in use'),
  ]
}

const list = (findings) =>
  table(
    [
      ['', ({ severity }) => badge(severity === 'act' ? 'bad' : severity === 'look' ? 'warn' : 'plain', severity)],
      ['what', ({ what, gain }) => [h('strong', {}, what), h('div.note', {}, gain)], { wide: true }],
      [
        'what to run',
        ({ sql, migration }) => [h('pre', {}, sql), migration && h('div.note', {}, migration)],
        { wide: true },
      ],
    ],
    findings,
    'Nothing: indexes, statements, sizes and settings are as they should be.',
  )

const servers = (window) =>
  window
    ? table(
        [
          ['server', ({ server, node, role }) => server ?? `${role ?? 'process'} ${node}`, { wide: true }],
          ['CPU, cores', ({ cores }) => cores.toFixed(2), { number: true }],
          ['event loop', ({ loop }) => (loop === undefined ? '' : percent(loop)), { number: true }],
          ['memory', ({ memoryBytes }) => bytes(memoryBytes), { number: true }],
          ['most', ({ memoryBytesMax }) => bytes(memoryBytesMax), { number: true }],
        ],
        [...window.servers, ...window.nodes],
        'Nothing was recorded.',
      )
    : h('p.empty', {}, 'Nothing was recorded yet.')
