import { ago, badge, command, h, of, panel, table } from './dom.js'

/** Alerts, incidents and deploys. */
export const changes = {
  path: '/incidents',
  title: 'Deploys and incidents',
  key: 'd',
  views: () => ['incidents?since=28d', 'deploys'],
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

const when = (at) => (at ? h('time', { datetime: new Date(at).toISOString() }, ago(at)) : '')

const alerts = ({ alerts: all, evaluatedUntil }, { acts, act }) => [
  table(
    [
      [
        'alert',
        ({ rule, what, title }) => [h('strong', {}, rule), h('div.note', {}, what ?? title ?? '')],
        { wide: true },
      ],
      [
        'state',
        ({ state, severity }) => badge(state === 'firing' ? (severity === 'page' ? 'bad' : 'warn') : 'plain', state),
      ],
      ['owner', ({ owner }) => owner ?? ''],
      ['since', ({ since, startedAt, firedAt }) => when(firedAt ?? since ?? startedAt)],
      ['seen by', ({ acknowledgedBy }) => acknowledgedBy ?? ''],
      ...(acts
        ? [
            [
              '',
              ({ rule, acknowledgedBy, state }) =>
                state === 'firing' && !acknowledgedBy
                  ? h(
                      'button',
                      { id: `ack-${rule}`, onclick: () => act('acknowledge', { alert: rule }) },
                      'Acknowledge',
                    )
                  : '',
            ],
          ]
        : []),
    ],
    all,
    'No alert fires.',
  ),
  h(
    'p.note',
    {},
    evaluatedUntil ? ['Evaluated ', when(evaluatedUntil), '.'] : 'Not evaluated yet: the app does it once a minute.',
  ),
]

const incidents = (all) =>
  table(
    [
      ['incident', ({ id, title }) => [`#${id} `, title], { wide: true }],
      ['state', ({ closedAt }) => badge(closedAt ? 'good' : 'bad', closedAt ? 'closed' : 'open')],
      ['opened', ({ openedAt }) => when(openedAt)],
      ['closed', ({ closedAt }) => when(closedAt)],
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
          badge(outcome === 'done' ? 'good' : outcome === 'running' ? 'plain' : 'warn', outcome),
          reason && h('div.note', {}, reason),
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
