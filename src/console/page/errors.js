import { ago, badge, command, h, of, panel, table, whole } from './dom.js'
import { windowChoice } from './traffic.js'

export const errors = {
  path: '/errors',
  title: 'Errors',
  key: 'e',
  views: (query) => [`errors?since=${query.get('since') ?? '24h'}`],
  draw: (readings, tools) => [
    windowChoice(tools, '24h'),
    panel(
      'Groups of errors, the latest first',
      of(readings, 'errors', (groups) => list(groups)),
      command('rung errors'),
    ),
  ],
}

const list = (groups) =>
  table(
    [
      [
        'error',
        ({ code, kind, message, name }) => [
          h('strong', {}, code ?? kind ?? name ?? 'error'),
          h('div.note', {}, message ?? ''),
        ],
        { wide: true },
      ],
      ['where', ({ route, where }) => route ?? where ?? '', { wide: true }],
      ['times', ({ count, times }) => whole(count ?? times), { number: true }],
      ['users', ({ users }) => (users === undefined ? '' : whole(users)), { number: true }],
      [
        'last',
        ({ lastAt, last }) => h('time', { datetime: new Date(lastAt ?? last).toISOString() }, ago(lastAt ?? last)),
      ],
      ['', ({ isNew, state }) => (isNew ? badge('warn', 'new') : (state ?? ''))],
    ],
    groups,
    'No errors in this window.',
  )
