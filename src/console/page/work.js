import { badge, bar, command, duration, h, ms, of, panel, percent, table, when, whole } from './dom.js'

/** Jobs, and deliveries of events. */
export const work = {
  path: '/jobs',
  title: 'Jobs and events',
  key: 'j',
  views: () => ['queues', 'groups', 'jobs?state=dead', 'deliveries?state=dead', 'running', 'crons'],
  draw: (readings, tools) => [
    h(
      'div.grid',
      {},
      panel(
        'Queues',
        of(readings, 'queues', (all) => counts('queue', all, 'No job waits, runs or is dead.', tools)),
        command('rung jobs'),
      ),
      panel(
        'Groups that handle events',
        of(readings, 'groups', (all) => counts('group', all, 'No module handles events.', tools)),
        command('rung events'),
      ),
    ),
    panel(
      'Running jobs',
      of(readings, 'running', (all) => running(all, tools)),
      command('rung jobs list --state running'),
    ),
    panel('At regular times', of(readings, 'crons', crons), command('rung jobs crons')),
    panel(
      'Dead jobs',
      of(readings, 'jobs', (all) => dead(all, 'job', tools)),
      command('rung jobs list --state dead'),
    ),
    panel(
      'Dead deliveries',
      of(readings, 'deliveries', (all) => dead(all, 'delivery', tools)),
      command('rung events list --state dead'),
    ),
  ],
}

const counts = (noun, all, empty, { acts, act }) =>
  table(
    [
      [noun, (one) => [one[noun], one.events && h('div.note', {}, one.events.join(', '))], { wide: noun === 'group' }],
      ['wait', ({ waiting }) => whole(waiting), { number: true }],
      ['later', ({ delayed }) => whole(delayed), { number: true }],
      ['run', ({ running }) => whole(running), { number: true }],
      ['dead', ({ dead }) => (dead > 0 ? badge('warn', whole(dead)) : '0'), { number: true }],
      ['oldest waits', ({ oldestWaitMs }) => (oldestWaitMs ? duration(oldestWaitMs) : '–'), { number: true }],
      ...(acts && all.some(({ dead }) => dead > 0)
        ? [
            [
              '',
              (one) =>
                one.dead > 0 &&
                h(
                  'button',
                  {
                    id: `retry-all-${noun}-${one[noun]}`,
                    'aria-label': `Retry all dead of ${one[noun]}`,
                    onclick: () => {
                      const what = noun === 'queue' ? 'jobs' : 'deliveries'
                      act(`retry-dead-${what}`, { queue: one[noun] }, `Run all dead ${what} of ${one[noun]} again?`)
                    },
                  },
                  'Retry all',
                ),
            ],
          ]
        : []),
    ],
    all,
    empty,
  )

const nameOf = ({ queue, name }) => [queue, name !== queue && h('div.note', {}, name)]
const payload = ['payload', (one) => h('code', {}, JSON.stringify(one.payload)?.slice(0, 200)), { wide: true }]

const running = (all, { acts, act }) =>
  table(
    [
      ['id', ({ id }) => h('code', {}, String(id))],
      ['queue', nameOf],
      ['since', ({ created_at: at }) => when(at)],
      ['try', ({ failures, attempts_max: most }) => `${failures + 1} of ${most}`, { number: true }],
      [
        'progress',
        ({ id, progress }) =>
          progress
            ? [
                bar(progress.share, `progress of ${id}`, { warns: false }),
                h('div.note', {}, percent(progress.share), ' ', progress.note),
              ]
            : h('span.note', {}, 'tells none'),
      ],
      ['process', ({ worker }) => h('code', {}, worker ?? '')],
      payload,
      ...(acts
        ? [
            [
              '',
              ({ id }) =>
                h(
                  'button',
                  { id: `cancel-${id}`, onclick: () => act('cancel-job', { id: String(id) }, `End job ${id}?`) },
                  'End',
                ),
            ],
          ]
        : []),
    ],
    all,
    'No job runs at the moment.',
  )

const levels = { done: 'good', cancelled: 'plain', retry: 'warn', dead: 'bad' }
const said = { done: 'done', cancelled: 'cancelled', retry: 'failed, runs again', dead: 'dead' }

const inText = (left) => (left < 1_000 ? 'now' : `in ${duration(left)}`)

const crons = (all) =>
  table(
    [
      ['cron', ({ name, job }) => [name, job !== null && job !== name && h('div.note', {}, `job ${job}`)]],
      ['times', ({ pattern, timeZone }) => [h('code', {}, pattern), h('div.note', {}, timeZone)]],
      [
        'next',
        ({ nextAt, overdue }) =>
          overdue
            ? [badge('warn', 'overdue'), h('div.note', {}, 'No worker runs, or the app has it no more.')]
            : nextAt === null
              ? 'never'
              : h('span', { title: nextAt }, inText(Date.parse(nextAt) - Date.now())),
      ],
      ['last run', ({ lastRun }) => (lastRun ? when(lastRun.at) : 'none is known')],
      [
        'outcome',
        ({ lastRun }) =>
          lastRun && [
            badge(levels[lastRun.outcome], said[lastRun.outcome]),
            lastRun.error && h('div.note', {}, lastRun.error),
          ],
        { wide: true },
      ],
      ['took', ({ lastRun }) => lastRun && ms(lastRun.durationMs), { number: true }],
      ['process', ({ lastRun }) => lastRun && h('code', {}, lastRun.worker)],
    ],
    all,
    'No module has a cron. cron(…) in its work enqueues a job at regular times.',
  )

const dead = (all, noun, { acts, act }) =>
  table(
    [
      ['id', ({ id }) => h('code', {}, String(id))],
      [noun === 'job' ? 'queue' : 'group', nameOf],
      ['ended', ({ ended_at: at }) => when(at)],
      ['tries', ({ failures, attempts_max: most }) => `${failures} of ${most}`, { number: true }],
      ['error', ({ error }) => error ?? '', { wide: true }],
      payload,
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
