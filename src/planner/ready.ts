import { formatAge } from '../kernel/units.ts'
import { freeLeast } from './pressure.ts'
import { dayText } from './trend.ts'
import { amount, countOf, percent } from './words.ts'

/** What is known of an app and of how it is run. Times are ms since the epoch; what is not known is `undefined`. */
export interface ReadyFacts {
  now: number
  rung: string
  /** The rung to be ready for. */
  to: string
  /** The rungs that there are. */
  rungs: readonly string[]
  /** `isOpen`: the limit was not found, it is at least this rate. */
  loadTest: { at: number; rung: string; rate: number; isOpen: boolean; isOfOtherBuild: boolean } | undefined
  /** Share of the capacity that is free in the busiest hour. */
  headroom: number | undefined
  /** Places in the sources where one process keeps what a second one would miss. */
  kept: readonly string[] | undefined
  /** `wrote`: otherwise it only opened pages. */
  proof: { at: number; rung: string; held: boolean; wrote: boolean } | undefined
  /** In the last week; `null` if the record is off. */
  recorded: { hours: number } | null | undefined
  usersKnown: boolean
  /** `null` if they are off. */
  alerts: { told: readonly string[]; rules: number; owner: string | undefined } | null
  /** What goes on now. */
  present: { firing: readonly string[]; openIncidents: number } | undefined
  /** `null`: nothing is archived; `undefined`: the database runs elsewhere. Ages in ms. */
  backup: { newestMs: number | undefined; drillMs: number | undefined } | null | undefined
  /** Of the last 28 days; a share of them failed. */
  deploys: { count: number; failedShare: number } | undefined
  /** Findings of the doctor to act on. */
  doctor: readonly string[] | undefined
  /** Decisions whose condition has come true. */
  decisionsDue: readonly string[]
}

export interface ReadyLine {
  name: string
  state: 'yes' | 'no' | 'unknown'
  /** A sentence. */
  seen: string
  /** What to do, where it is not "yes". */
  todo: string | undefined
}

const dayMs = 86_400_000
/** What was tried longer ago says little of what runs today. */
const freshMs = 90 * dayMs
/** The archiver takes a base backup each day. */
const backupMsMax = 2 * dayMs
/** A week has all its days. */
const recordedHoursMin = 7 * 24
/** The worst of the four groups of DORA's "Accelerate State of DevOps" (2019 to 2021) has 46 to 60 %, the best up to 15 %. */
const failedShareMax = 0.15

/** `rung start` is one process, which has no deploy. */
const deployHow = 'With rung up: rung deploy. With rung start: rung stop, and start the new code.'

/** Judges each point by its evidence; each counts as much as the others. Pure. */
export function readyLines(facts: ReadyFacts): ReadyLine[] {
  const { now, rung, to, rungs, loadTest, headroom, kept, proof, recorded, alerts, backup, deploys, doctor } = facts
  const lines: ReadyLine[] = []
  const add = (name: string, state: ReadyLine['state'], seen: string, todo?: string) =>
    lines.push({ name, state, seen, todo: state === 'yes' ? undefined : todo })
  const ago = (ms: number) => `${formatAge(ms)} ago`
  const places = (texts: readonly string[]) =>
    `${texts.slice(0, 2).join('; ')}${texts.length > 2 ? `; and ${texts.length - 2} more` : ''}`.replace(/\.?$/, '.')

  if (!rungs.includes(to)) add('rung', 'no', `Rung has no ${to} yet: the highest is ${rungs.at(-1)}.`)
  else if (rungs.indexOf(to) !== rungs.indexOf(rung) + 1) {
    const next = rungs[rungs.indexOf(rung) + 1]
    const seen = next ? `the next rung is ${next}` : 'that is the highest rung'
    add('rung', 'no', `It runs at ${rung}, and ${seen}.`, next && `rung ready ${next}`)
  }

  if (!loadTest) add('load', 'no', 'Its limit was not looked for.', 'rung load --to-break --p95 200ms')
  else {
    const day = dayText(Math.floor(loadTest.at / dayMs))
    const seen = loadTest.isOpen
      ? `The limit at ${loadTest.rung} was not found on ${day}: it is at least ${amount(loadTest.rate)} requests/s`
      : `The limit at ${loadTest.rung} was ${amount(loadTest.rate)} requests/s on ${day}`
    if (loadTest.rung !== rung)
      add('load', 'no', `${seen}; it runs at ${rung} now.`, 'rung load --to-break --p95 200ms')
    else if (loadTest.isOfOtherBuild) add('load', 'no', `${seen}, with other code.`, 'rung load --to-break --p95 200ms')
    else if (now - loadTest.at > freshMs)
      add('load', 'no', `${seen}, ${ago(now - loadTest.at)}.`, 'rung load --to-break --p95 200ms')
    else if (loadTest.isOpen) add('load', 'no', `${seen}.`, 'rung load --to-break --p95 200ms --threads 2')
    else add('load', 'yes', `${seen}.`)
  }
  if (headroom === undefined) add('headroom', 'unknown', 'Too little is recorded to say what is free.', 'rung plan')
  else {
    const seen = `${percent(Math.max(0, headroom))} of the capacity is free in the busiest hour.`
    add('headroom', headroom >= freeLeast ? 'yes' : 'no', seen, 'rung advise')
  }

  if (!kept) add('stateless', 'unknown', 'The sources could not be read.', 'Run rung doctor where they are.')
  else if (kept.length > 0) add('stateless', 'no', places(kept), 'rung doctor says how to mend each.')
  else add('stateless', 'yes', 'No process keeps what another one would miss.')

  if (!proof) add('proof', 'no', 'Its promises were not tried out while parts fail.', `rung prove ${rung}`)
  else if (!proof.wrote) {
    const seen = `The proof at ${proof.rung} ${ago(now - proof.at)} only opened pages, and wrote nothing.`
    add('proof', 'no', seen, `rung prove init, then rung prove ${rung}`)
  } else {
    const seen = `Its promises were ${proof.held ? '' : 'not all '}held at ${proof.rung} ${ago(now - proof.at)}.`
    add('proof', proof.held && now - proof.at <= freshMs ? 'yes' : 'no', seen, `rung prove ${rung}`)
  }

  if (recorded === null) add('record', 'no', 'The record is off.', 'RUNG_RECORD=on')
  else if (!recorded) add('record', 'unknown', 'The record could not be read.', 'rung record')
  else
    add(
      'record',
      recorded.hours >= recordedHoursMin ? 'yes' : 'no',
      `${countOf(recorded.hours, 'hour')} of the last week ${recorded.hours === 1 ? 'is' : 'are'} recorded.`,
      'Wait until a whole week is.',
    )
  if (facts.usersKnown) add('users', 'yes', 'How many users there are is known.')
  else
    add('users', 'no', 'How many users there are is not known.', "defineApp({ users: { table: 'accounts.account' } })")

  if (!alerts) add('alerts', 'no', 'Alerts are off.', 'RUNG_ALERTS=on')
  else if (alerts.told.length === 0)
    add(
      'alerts',
      'no',
      'Nobody is told of alerts, by the settings that this command sees.',
      'Set RUNG_ALERT_WEBHOOK or RUNG_ALERT_MAIL.',
    )
  else if (alerts.owner === undefined)
    add('alerts', 'no', 'The app has no owner of alerts.', "defineApp({ alerts: { owner: 'team' } })")
  else add('alerts', 'yes', `${alerts.rules} rules, each with an owner and a runbook, by ${alerts.told.join(' and ')}.`)
  const { present } = facts
  if (!present) add('calm', 'unknown', 'Alerts and incidents could not be read.', 'rung alerts')
  else if (present.openIncidents + present.firing.length === 0)
    add('calm', 'yes', 'No alert fires, and no incident is open.')
  else {
    const { openIncidents: open, firing } = present
    const seen = [
      ...(open > 0 ? [`${countOf(open, 'incident')} ${open === 1 ? 'is' : 'are'} open.`] : []),
      ...(firing.length > 0 ? [`These alerts fire: ${firing.join(', ')}.`] : []),
    ]
    add('calm', 'no', seen.join(' '), 'rung alerts')
  }

  if (backup === null)
    add('backup', 'no', 'The database is not backed up.', 'Set RUNG_BACKUP_DIR or RUNG_BACKUP_S3_URL.')
  else if (backup === undefined)
    add('backup', 'unknown', 'The database runs elsewhere: look at its backups there.', 'Restore one.')
  else {
    const { newestMs, drillMs } = backup
    if (newestMs === undefined) add('backup', 'no', 'There is no base backup.', 'rung backup')
    else
      add(
        'backup',
        newestMs <= backupMsMax ? 'yes' : 'no',
        `The newest base backup is ${formatAge(newestMs)} old.`,
        'rung backup',
      )
    if (drillMs === undefined) add('drill', 'no', 'No restore was tried from here.', 'rung backup drill')
    else add('drill', drillMs <= freshMs ? 'yes' : 'no', `A restore was tried ${ago(drillMs)}.`, 'rung backup drill')
  }

  if (!deploys) add('deploys', 'unknown', 'The deploys could not be read.', 'rung deploys')
  else if (deploys.count === 0) add('deploys', 'no', 'Nothing was deployed in 28 days.', deployHow)
  else {
    const { count, failedShare } = deploys
    const seen = `${countOf(count, 'deploy')} in 28 days, ${percent(failedShare)} of them failed.`
    add('deploys', failedShare <= failedShareMax ? 'yes' : 'no', seen, 'rung deploys')
  }
  if (!doctor) add('schema', 'unknown', 'The database could not be examined.', 'rung doctor')
  else if (doctor.length === 0) add('schema', 'yes', 'The doctor finds nothing to act on.')
  else add('schema', 'no', places(doctor), 'rung doctor')
  const { decisionsDue: due } = facts
  if (due.length === 0) add('decisions', 'yes', 'No decision is due.')
  else add('decisions', 'no', `Due: ${places(due)}.`, 'rung adr')
  return lines
}
