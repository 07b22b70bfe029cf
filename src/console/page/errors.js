import { badge, command, figure, figures, h, isHexadecimal, link, of, panel, table, when, whole } from './dom.js'
import { windowChoice } from './traffic.js'

export const errors = {
  path: '/errors',
  title: 'Errors',
  key: 'e',
  views: (query) => {
    const id = query.get('id')
    return [id === null ? `errors?since=${query.get('since') ?? '24h'}` : `error?id=${encodeURIComponent(id)}`]
  },
  draw: (readings, tools) => {
    const id = tools.query().get('id')
    if (id !== null) return one(readings, id)
    return [
      windowChoice(tools, '24h'),
      panel('Groups of errors, the latest first', of(readings, 'errors', list), command('rung errors')),
    ]
  },
}

/** Causes come after what they caused: the last one says most. */
const titleOf = ({ errors: all }) => textOf(all.at(-1))
const textOf = ({ name, code, message }) => `${code ?? name}: ${message}`

const list = (groups) =>
  table(
    [
      [
        'error',
        ({ fingerprint, sample }) => [
          link(`/errors?id=${fingerprint}`, titleOf(sample)),
          h(
            'div.note',
            {},
            [sample.at ?? [], sample.traceId ? toTrace(sample.traceId, 'its trace') : []]
              .flat()
              .flatMap((part, index) => (index === 0 ? [part] : [' · ', part])),
          ),
        ],
        { wide: true },
      ],
      ['where', ({ sample }) => sample.where],
      ['times', ({ count }) => whole(count), { number: true }],
      ['users', ({ users }) => whole(users), { number: true }],
      ['first', ({ firstAt }) => when(firstAt)],
      ['last', ({ lastAt }) => when(lastAt)],
      ['builds', ({ releases }) => releases.map(({ release }) => release).join(', '), { wide: true }],
    ],
    groups,
    'No errors in this window.',
  )

const toTrace = (id, text) => link(`/traces?id=${id}`, text)

const one = (readings, id) => [
  h('p', {}, link('/errors', '← All errors')),
  panel('One group of errors', of(readings, 'error', group), isHexadecimal(id) && command(`rung errors ${id}`)),
]

const group = ({ firstAt, lastAt, count, users, releases, sample }) => [
  figures(
    figure('where', sample.where),
    figure('times', whole(count)),
    figure('users', whole(users)),
    figure('first', when(firstAt)),
    figure('last', when(lastAt)),
  ),
  h('h3', {}, 'The newest of them'),
  sample.errors.map((error, index) => [
    h('p', {}, index > 0 && [badge('plain', 'caused by'), ' '], h('strong', {}, textOf(error))),
    error.stack.length > 0 && h('pre', { tabindex: 0 }, error.stack.join('\n')),
  ]),
  sample.traceId && h('p.note', {}, toTrace(sample.traceId, 'Its trace')),
  sample.requestId && h('p.note', {}, 'request ', h('code', {}, sample.requestId)),
  h('h3', {}, 'Builds'),
  table(
    [
      ['build', ({ release }) => h('code', {}, release), { wide: true }],
      ['times', (release) => whole(release.count), { number: true }],
      ['users', (release) => whole(release.users), { number: true }],
      ['first', (release) => when(release.firstAt)],
      ['last', (release) => when(release.lastAt)],
    ],
    releases,
    'No build is known.',
  ),
]
