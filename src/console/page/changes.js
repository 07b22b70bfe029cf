import { badge, command, h, of, panel, table, when } from './dom.js'

/** Alerts, incidents and deploys. */
export const changes = {
  path: '/incidents',
  title: 'Deploys and incidents',
  key: 'd',
  views: () => ['alerts', 'incidents?since=28d', 'deploys'],
  draw: (readings, tools) => [
    panel(
      'Alerts',
      of(readings, 'alerts', (view) => alerts(view, tools)),
      command('rung alerts'),
    ),
    panel('Incidents of the last 28 days', of(readings, 'incidents', incidents), command('rung incidents')),
    panel('Deploys', of(readings, 'deploys', deploys), command('rung deploys')),
  ],
}

const alerts = ({ alerts: all, evaluatedUntil }, { acts, act }) => [
  table(
    [
      [
        'alert',
        ({ rule, labels, runbook }) => [
          h('strong', {}, rule),
          ' ',
          Object.values(labels).join(' '),
          runbook && h('div.note', {}, /^https?:/.test(runbook) ? link(runbook) : h('code', {}, runbook)),
        ],
        { wide: true },
      ],
      ['state', ({ state, severity }) => badge(levelOf(state, severity), state)],
      ['value', ({ value }) => String(Number(value.toPrecision(3))), { number: true }],
      ['owner', ({ owner }) => owner ?? ''],
      ['since', ({ since, firedAt }) => when(firedAt ?? since)],
      ['incident', ({ incident }) => (incident === null ? '' : `#${incident}`)],
      ['seen by', ({ acknowledgedBy }) => acknowledgedBy ?? ''],
      ...(acts
        ? [
            [
              '',
              ({ rule, acknowledgedBy, state }) =>
                state === 'firing' &&
                acknowledgedBy === null &&
                h('button', { id: `ack-${rule}`, onclick: () => act('acknowledge', { alert: rule }) }, 'Acknowledge'),
            ],
          ]
        : []),
    ],
    all,
    evaluatedUntil ? 'No alert fires.' : 'Alerts are not evaluated.',
  ),
  evaluatedUntil
    ? h('p.note', {}, 'Evaluated ', when(evaluatedUntil), '.')
    : h(
        'p.note',
        {},
        'The app evaluates them once a minute, unless RUNG_ALERTS or RUNG_RECORD is off, as in development.',
      ),
]

const link = (href) => h('a', { href, rel: 'noreferrer' }, href)
const levelOf = (state, severity) => (state !== 'firing' ? 'plain' : severity === 'page' ? 'bad' : 'warn')

const incidents = (all) =>
  table(
    [
      ['incident', ({ id, title }) => `#${id} ${title}`, { wide: true }],
      ['state', ({ closedAt }) => badge(closedAt ? 'good' : 'bad', closedAt ? 'closed' : 'open')],
      ['opened', ({ openedAt }) => when(openedAt)],
      ['seen by', ({ acknowledgedBy }) => acknowledgedBy ?? ''],
      ['closed', ({ closedAt }) => when(closedAt)],
      ['its timeline', ({ id }) => h('code', {}, `rung incidents show ${id}`)],
    ],
    all,
    'There were none.',
  )

const deploys = (all) =>
  table(
    [
      ['build', ({ build }) => h('code', {}, build)],
      ['rung', ({ rung }) => rung],
      [
        'outcome',
        ({ outcome, reason }) => [
          badge(outcome === 'done' ? 'good' : 'warn', outcome),
          h('div.note', {}, reason ?? ''),
        ],
        { wide: true },
      ],
      ['by', ({ startedBy }) => startedBy],
      ['begun', ({ startedAt }) => when(startedAt)],
      ['migrations', ({ migrations }) => (migrations ?? []).join(', '), { wide: true }],
    ],
    all,
    'No deploy was recorded.',
  )
