import { badge, command, duration, h, of, panel, table, when, whole } from './dom.js'

/** Jobs, and deliveries of events. */
export const work = {
  path: '/jobs',
  title: 'Jobs and events',
  key: 'j',
  views: () => ['groups', 'jobs?state=dead', 'deliveries?state=dead'],
  draw: (readings, tools) => [
    h(
      'div.grid',
      {},
      panel(
        'Queues',
        of(readings, 'queues', (all) => counts('queue', all, 'No job waits, runs or is dead.')),
        command('rung jobs'),
      ),
      panel(
        'Groups that handle events',
        of(readings, 'groups', (all) => counts('group', all, 'No module handles events.')),
        command('rung events'),
      ),
    ),
    panel(
      'Dead jobs',
      of(readings, 'jobs', (all) => dead(all, 'job', tools)),
    ),
    panel(
      'Dead deliveries',
      of(readings, 'deliveries', (all) => dead(all, 'delivery', tools)),
    ),
  ],
}

const counts = (noun, all, empty) =>
  table(
    [
      [noun, (one) => [one[noun], one.events && h('div.note', {}, one.events.join(', '))], { wide: true }],
      ['wait', ({ waiting }) => whole(waiting), { number: true }],
      ['later', ({ delayed }) => whole(delayed), { number: true }],
      ['run', ({ running }) => whole(running), { number: true }],
      ['dead', ({ dead }) => (dead > 0 ? badge('warn', whole(dead)) : '0'), { number: true }],
      ['oldest waits', ({ oldestWaitMs }) => (oldestWaitMs ? duration(oldestWaitMs) : '–'), { number: true }],
    ],
    all,
    empty,
  )

const dead = (all, noun, { acts, act }) =>
  table(
    [
      ['id', ({ id }) => h('code', {}, String(id))],
      [noun === 'job' ? 'queue' : 'group', ({ queue, name }) => [queue, name !== queue && h('div.note', {}, name)]],
      ['ended', ({ ended_at: at }) => when(at)],
      ['tries', ({ failures, attempts_max: most }) => `${failures} of ${most}`, { number: true }],
      ['error', ({ error }) => error ?? '', { wide: true }],
      ['payload', ({ payload }) => h('code', {}, JSON.stringify(payload)?.slice(0, 200)), { wide: true }],
      ...(acts
        ? [
            [
              '',
              ({ id }) =>
                h('button', { id: `retry-${id}`, onclick: () => act(`retry-${noun}`, { id: String(id) }) }, 'Retry'),
            ],
          ]
        : []),
    ],
    all,
    `No ${noun} is dead.`,
  )
