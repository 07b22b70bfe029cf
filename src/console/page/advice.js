import { badge, command, figure, figures, h, of, panel, span } from './dom.js'

export const advice = {
  path: '/advice',
  title: 'Advice and decisions',
  key: 'a',
  views: () => ['advice', 'decisions'],
  draw: (readings) => [
    of(readings, 'advice', ({ why, findings, isDue }) => [
      panel(
        'When to climb',
        h('p', {}, badge(isDue ? 'warn' : 'good', isDue ? 'it is time' : 'not yet'), ' ', why),
        command('rung advise'),
      ),
      ...findings.map(finding),
    ]),
    panel('Decisions in docs/adr', of(readings, 'decisions', decisions), command('rung adr')),
  ],
}

const finding = ({ number, verdict, what, seen, rule, gain, cost, change, undo, revisitWhen }) =>
  panel(
    `${number}. ${what}`,
    h('p', {}, badge(verdict === 'now' ? 'warn' : 'plain', verdict), ' ', seen),
    h('p', {}, rule),
    figures(
      figure('money', cost?.money ? `$${span(cost.money)} a month` : '–'),
      figure('work', cost?.days ? `${span(cost.days, (value) => value.toFixed(1))} days` : '–'),
    ),
    h('h3', {}, 'What it brings'),
    h('p', {}, gain),
    h('h3', {}, 'How'),
    h('pre', {}, change),
    h('p.note', {}, `Undo: ${undo} Look again when: ${revisitWhen}`),
    h('p.note', {}, 'Accept it: ', h('code', {}, `rung advise --accept ${number}`)),
  )

const decisions = ({ decisions: all }) =>
  all.length === 0
    ? h('p.empty', {}, 'None yet. Accepting advice writes one.')
    : h(
        'ul',
        {},
        ...all.map(({ number, title, isDue, revisitWhen }) =>
          h(
            'li',
            {},
            `${/^\d+\./.test(title) ? title : `${number}. ${title}`} `,
            isDue ? badge('warn', 'look again') : '',
            h('div.note', {}, revisitWhen ?? ''),
          ),
        ),
      )
