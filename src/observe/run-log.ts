import { messageOf } from '../kernel/errors.ts'
import { runInScope } from '../kernel/scope.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import { type EventTrouble, eventTrouble } from '../primitives/events/channels.ts'
import type { Http } from '../primitives/http/contract.ts'
import { queueTrouble, type RunDone, runDone, type Trouble } from '../primitives/jobs/channels.ts'
import type { Log } from '../runtime/log.ts'
import { listen } from './listen.ts'

/** A failure that will be retried is a warning; a dead job is lost work until somebody acts. */
const levels: Partial<Record<RunDone['outcome'], 'warn' | 'error'>> = { retry: 'warn', dead: 'error', lost: 'warn' }

/** Logs each run that failed, and each trouble of the queue. */
export function runLog(http: Http, data: DataRoot, log: Log): void {
  listen<RunDone>(http, data, runDone, ({ item, outcome, durationMs, error, scope }) => {
    const level = levels[outcome]
    if (!level) return
    const { queue, name, id, failures, attemptsMax } = item
    const facts = {
      event: `job-${outcome}`,
      queue,
      job: name,
      id,
      attempt: failures + 1,
      attemptsMax,
      durationMs,
      err: error,
    }
    const tries = outcome === 'dead' ? `dead after ${failures + 1} tries: ` : ''
    runInScope(scope, () => log[level](facts, `${name}#${id}: ${tries}${messageOf(error)}`))
  })
  listen<Trouble>(http, data, queueTrouble, ({ event, error, count }) => {
    log.warn({ event: `queue-${event}`, err: error, count }, `queue: ${event}${error ? `: ${messageOf(error)}` : ''}`)
  })
  listen<EventTrouble>(http, data, eventTrouble, ({ event, error }) => {
    const why = error ? `: ${messageOf(error)}` : ''
    log[troubleLevels[event]]({ event: `events-${event}`, err: error }, `${troubleWords[event]}${why}`)
  })
}

const troubleLevels = {
  'broker-failed': 'warn',
  'broker-full': 'error',
  'broker-back': 'info',
  'take-failed': 'warn',
  'read-failed': 'warn',
} as const

const troubleWords: Readonly<Record<EventTrouble['event'], string>> = {
  'broker-failed': 'Events are read from the database, because the broker cannot be used',
  'broker-full':
    'Events wait in the database and are read from there, because the broker takes no more; give it more disk space (RUNG_EVENTS_MIB)',
  'broker-back': 'The broker carries events again',
  'take-failed': 'Events could not be added to the queues of their groups, and are tried again',
  'read-failed': 'Events could not be read from the database, and are tried again',
}
