import { command, h, of, panel, table, when, whole } from './dom.js'
import { windowChoice } from './traffic.js'

export const errors = {
  path: '/errors',
  title: 'Errors',
  key: 'e',
  views: (query) => [`errors?since=${query.get('since') ?? '24h'}`],
  draw: (readings, tools) => [
    windowChoice(tools, '24h'),
    panel('Groups of errors, the latest first', of(readings, 'errors', list), command('rung errors')),
  ],
}

/** The error that was thrown last is what people see; those before are its causes. */
const titleOf = ({ name, code, message }) => `${code ?? name}: ${message}`

const list = (groups) =>
  table(
    [
      [
        'error',
        ({ fingerprint, sample }) => [
          h('strong', {}, titleOf(sample.errors.at(-1))),
          h(
            'div.note',
            {},
            sample.at ? `${sample.at} · ` : '',
            h('code', {}, `rung errors ${fingerprint}`),
            sample.traceId && [' · ', toTrace(sample.traceId)],
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

function toTrace(id) {
  const to = `/traces?id=${id}`
  return h('a', { href: to, 'data-to': to }, 'its trace')
}
