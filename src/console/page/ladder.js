import { badge, bar, command, figure, figures, h, of, panel, percent, span, table, whole } from './dom.js'

const dayText = (day) => new Date(day * 86_400_000).toISOString().slice(0, 10)
const money = ({ low, high }) => `$${span({ low, high })}`

/** Where the app stands, how far it is to the next rung, and what that costs. */
export const ladder = {
  path: '/',
  title: 'Ladder',
  key: 'l',
  views: () => ['fleet', 'report', 'plan', 'cost', 'step'],
  draw: (readings, tools) => [
    h(
      'div.grid',
      {},
      panel(
        'Where the app stands',
        of(readings, 'report', (report) => standing(report, readings.get('plan')?.view)),
      ),
      panel(
        'What comes next',
        of(readings, 'report', (report) => next(report)),
      ),
    ),
    panel(
      'The next step',
      of(readings, 'step', (plan) => step(plan)),
      tools.acts && changes(readings, tools),
      command('rung climb --dry-run'),
    ),
    panel(
      'The ladder',
      of(readings, 'cost', (cost) => rungs(cost, readings.get('report')?.view)),
      command('rung report · rung plan · rung cost'),
    ),
  ],
}

function standing({ rung, rate, users, answers, ready, today }, plan) {
  const free = plan?.headroom?.free
  const date = plan?.date
  return [
    figures(
      figure('rung', h('strong', {}, rung)),
      figure('registered users', whole(users.registered)),
      figure('busiest hour', rate === undefined ? 'not known yet' : `${rate.toFixed(1)} requests/s`),
      figure('95 of 100 answers within', answers ? `${Math.round(answers.p95Ms)} ms` : 'not known yet'),
      figure('answers without an error', answers ? percent(1 - answers.failed / answers.requests, 2) : 'not known yet'),
      figure('ready for the next rung', `${ready.yes} of ${ready.of}`, 'rung ready'),
    ),
    h('h3', {}, 'Capacity in use'),
    free
      ? [
          bar(1 - free.likely, 'capacity in use'),
          h(
            'p.note',
            {},
            `${percent(free.likely)} is free (${percent(free.low)} to ${percent(free.high)}). `,
            dateText(date, today),
          ),
        ]
      : h('p.empty', {}, 'Not known yet: measure it with rung load --to-break, or let the app run for a day.'),
  ]
}

function dateText(date) {
  if (!date) return ''
  if (date.unknown) return date.unknown
  return `The ceiling is reached on ${dateOf(date.likely)} (${dateOf(date.low)} to ${dateOf(date.high)}).`
}
const dateOf = (value) => (typeof value === 'number' ? dayText(value) : value)

function next({ findings, decisionsDue, openIncidents }) {
  const first = findings[0]
  return [
    ...openIncidents.map((title) =>
      h('p', {}, badge('bad', 'open'), ' ', h('a', { href: '/incidents', 'data-to': '/incidents' }, title)),
    ),
    first
      ? [
          h(
            'p',
            {},
            badge(first.verdict === 'now' ? 'warn' : 'plain', first.verdict),
            ' ',
            h('strong', {}, first.what),
          ),
          h('p', {}, first.seen, ' ', first.rule),
          h('p.note', {}, h('a', { href: '/advice', 'data-to': '/advice' }, `All advice (${findings.length})`)),
        ]
      : h('p.empty', {}, 'There is no advice yet.'),
    ...decisionsDue.map((title) => h('p', {}, badge('warn', 'look again'), ' ', title)),
  ]
}

function rungs({ rungs: all, rung }, report) {
  const registered = report?.users.registered
  return h(
    'ol.ladder',
    { reversed: true },
    ...all.toReversed().map(({ rung: name, users, derived, reported }) => {
      const isHere = name === rung
      return h(
        `li${isHere ? '.here' : ''}`,
        isHere ? { 'aria-current': 'step' } : {},
        h('span.name', {}, name),
        h(
          'div',
          {},
          h('div', {}, `for about ${whole(users)} users`, isHere ? [' · ', h('strong', {}, 'the app is here')] : ''),
          isHere && registered !== undefined ? bar(registered / users, 'users of this rung') : undefined,
        ),
        h(
          'div.quiet',
          {},
          derived ? `${money(derived)} a month` : '',
          reported ? h('div.note', {}, `${money(reported)} are reported`) : '',
        ),
      )
    }),
  )
}

/** What a climb would do, and what speaks against it. */
function step({ from, to, added, removed, restarted, moves, app, checks, parts }) {
  const list = (name, all, between = ', ') =>
    all.length > 0 && h('p', {}, h('strong', {}, name), ' ', all.join(between))
  return [
    h('p', {}, `From rung ${from} to ${to}: ${parts.next} parts instead of ${parts.now}.`),
    list('Adds', added),
    list('Restarts', restarted),
    list('Removes', removed),
    list('Moves', moves, ' '),
    app.length > 0 && h('ul', {}, ...app.map((sentence) => h('li', {}, sentence))),
    table(
      [
        ['check', ({ name }) => name],
        ['', ({ state }) => badge(state === 'refused' ? 'bad' : state === 'ok' ? 'good' : 'warn', state)],
        ['seen', ({ seen, todo }) => [seen, todo && h('div.note', {}, todo)], { wide: true }],
      ],
      checks,
      'Nothing was checked.',
    ),
  ]
}

/** Where no climb is possible, as at the highest rung, the last one can still be taken back. */
function changes(readings, { act }) {
  if (!readings.get('fleet')?.view?.rung) return undefined
  const plan = readings.get('step')?.view
  return h(
    'p.controls',
    {},
    plan && climb(plan, act),
    h(
      'button',
      { id: 'undo-climb', onclick: () => act('undo-climb', {}, 'Go back to the rung before the last climb?') },
      'Take the last climb back',
    ),
  )
}

function climb({ from, to, checks }, act) {
  const refused = checks.filter(({ state }) => state === 'refused').map(({ name }) => name)
  if (refused.includes('engines')) return undefined
  const isAccepting = refused.length > 0
  const question = `Climb from ${from} to ${to}? ${isAccepting ? `Accepted: ${refused.join(', ')}. ` : ''}Requests go on; it goes back by itself if answers get worse.`
  return h(
    'button.primary',
    { id: 'climb', onclick: () => act('climb', { to, ...(isAccepting && { accept: refused.join(',') }) }, question) },
    isAccepting ? `Accept ${refused.join(', ')}, and climb to ${to}` : `Climb to ${to}`,
  )
}
