import { after, atMost, systemClock } from '../../kernel/clock.ts'
import { messageOf } from '../../kernel/errors.ts'
import type { Http } from '../../primitives/http/contract.ts'
import type { Extension } from '../../runtime/boot.ts'
import { openRecordLease } from '../../runtime/wire.ts'
import { nameOfProcess } from '../../runtime/work.ts'
import type { Figures } from '../figures.ts'
import { type Lookout, looker } from './look.ts'
import { createRecorder, type RecorderParts } from './recorder.ts'
import { recordedOfEach, recordedOnce, snapshotOf } from './snapshot.ts'

const everyMs = 60_000
/** A database that does not answer must not hold up a stop. */
const endMsMax = 5_000

/** Records each whole minute of the wall clock for as long as the app runs, and what is left at its stop. */
export function keepRecord(http: Http, parts: RecorderParts): void {
  const recorder = createRecorder(parts)
  let running: Promise<void> = Promise.resolve()
  let isEnding = false
  let endTimer = () => {}
  function arm(): void {
    if (isEnding) return
    endTimer = after(everyMs - (systemClock.now() % everyMs), () => {
      running = recorder.record().finally(arm)
    })
  }
  arm()
  http.addHook('onClose', async () => {
    isEnding = true
    endTimer()
    await atMost(
      endMsMax,
      running.then(() => recorder.end()),
    )
  })
}

/** What a recorder of a running app works with. */
export function recorderParts(
  figures: Figures,
  { data, primitives, bindings, log }: Pick<Parameters<Extension>[1], 'data' | 'primitives' | 'bindings' | 'log'>,
  servers: Lookout['servers'],
): RecorderParts {
  const { database } = primitives.stores.main
  return {
    node: nameOfProcess(),
    database,
    lease: openRecordLease(database),
    read: async (shared) => snapshotOf(await figures.read([...recordedOfEach, ...(shared ? recordedOnce : [])])),
    look: looker({ databases: data.databases, dataDir: bindings.dataDir, servers }),
    trouble(error) {
      if (error === undefined) log.info({ event: 'recorded' }, 'measurements are recorded again')
      else log.warn({ event: 'not-recorded', err: error }, `${notRecorded}: ${messageOf(error)}`)
    },
  }
}

const notRecorded = 'measurements could not be recorded; those of the last six hours are kept and recorded later'
