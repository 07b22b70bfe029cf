import { bar, bytes, command, figure, figures, h, ms, of, panel, percent, table, whole } from './dom.js'

export const cache = {
  path: '/cache',
  title: 'Cache',
  key: 'h',
  views: () => ['cache'],
  draw: (readings) =>
    of(readings, 'cache', ({ groups, hottest, largest, processes }) => [
      panel('Groups of keys', groupsOf(groups), command('rung cache')),
      panel('Processes', processesOf(processes)),
      h('div.grid', {}, panel('Used most', keys(hottest)), panel('Largest', keys(largest))),
    ]),
}

const share = ({ hits = 0, sharedHits = 0, graces = 0, loads = 0 }) => {
  const all = hits + sharedHits + graces + loads
  return all === 0 ? undefined : (hits + sharedHits + graces) / all
}

const groupsOf = (groups) =>
  table(
    [
      ['group', ({ group }) => group, { wide: true }],
      ['module', ({ module }) => module],
      ['from the cache', (one) => (share(one) === undefined ? '–' : percent(share(one))), { number: true }],
      ['memory', ({ hits }) => whole(hits), { number: true }],
      ['shared', ({ sharedHits }) => whole(sharedHits), { number: true }],
      ['grace', ({ graces }) => whole(graces), { number: true }],
      ['loads', ({ loads }) => whole(loads), { number: true }],
      ['a load takes', ({ loads, loadMs }) => (loads > 0 ? ms(loadMs / loads) : '–'), { number: true }],
      ['failed', ({ failures }) => whole(failures), { number: true }],
    ],
    groups,
    [
      'Nothing was cached yet. A route with ',
      h('code', {}, 'cache'),
      ', or a call of ',
      h('code', {}, 'cache.get'),
      ', puts something here.',
    ],
  )

const processesOf = (all) => [
  ...all.map(({ process, entries, bytes: used, bytesMax, shared }) => [
    figures(
      figure('process', process),
      figure('entries', whole(entries)),
      figure('memory', bytes(used), `of ${bytes(bytesMax)}`),
      shared &&
        figure(
          'shared',
          shared.up ? (shared.facts?.engine ?? 'up') : 'away',
          shared.facts && `${bytes(shared.facts.bytes)}, ${whole(shared.facts.keys)} keys`,
        ),
    ),
    bar(used / bytesMax, `memory of ${process}`),
  ]),
]

const keys = (all) =>
  table(
    [
      ['key', ({ key }) => h('code', {}, decodeURIComponent(key.replace(/%(?![0-9a-f]{2})/gi, '%25'))), { wide: true }],
      ['uses', ({ uses }) => whole(uses), { number: true }],
      ['size', ({ bytes: size }) => bytes(size), { number: true }],
    ],
    all,
    'No keys.',
  )
