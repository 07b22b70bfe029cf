import { badge, bytes, command, h, of, panel, table, when } from './dom.js'

/** What was tried out, and what is not shown yet: load, proof by failure, backups, drills. */
export const proofs = {
  path: '/proofs',
  title: 'Proofs',
  key: 'p',
  views: () => ['ready', 'backups'],
  draw: (readings) => [
    panel('Evidence for the next rung', of(readings, 'ready', ready), command('rung ready')),
    panel('Backups', of(readings, 'backups', backups), command('rung backup list · rung backup drill')),
  ],
}

const isProse = (text) => /\.$|, then /.test(text)
const levels = { yes: 'good', no: 'warn', unknown: 'plain' }

const ready = ({ rung, to, yes, of: all, lines }) => [
  h('p', {}, `${yes} of ${all} points are shown for the step from ${rung} to ${to}.`),
  table(
    [
      ['point', ({ name }) => name],
      ['', ({ state }) => badge(levels[state] ?? 'plain', state)],
      ['seen', ({ seen }) => seen, { wide: true }],
      ['to show it', ({ todo }) => (todo && !isProse(todo) ? h('code', {}, todo) : todo), { wide: true }],
    ],
    lines,
    'Nothing is known yet.',
  ),
]

const backups = (databases) => [
  table(
    [
      ['base backup', ({ id }) => h('code', {}, id)],
      ['data', ({ files }) => bytes(files[0]?.bytes), { number: true }],
      ['restores from', ({ restores }) => (restores.length > 0 ? when(restores[0].from) : 'its log is incomplete')],
      ['until', ({ restores }) => when(restores.at(-1)?.to)],
    ],
    databases.flatMap(({ bases }) => bases.toReversed()),
    'There is no backup. Set RUNG_BACKUP_DIR, or run: rung backup',
  ),
  ...databases.flatMap(({ faults }) =>
    faults.map(({ file, what }) => h('p', {}, badge('bad', 'damaged'), ` ${file}: ${what}`)),
  ),
]
