import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { writeWholeSynced } from '../engines/disk/atomic.ts'
import { identify, type Known, lives } from '../engines/process/pid-file.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { Undo } from './fault.ts'
import { undoBy } from './undo.ts'

/**
 * A fault that is in force, in a file of `<data>/chaos/`. It is there before anything is changed, and until all of it is undone, so
 * that whatever a killed `rung chaos` has left is known.
 */
export interface FaultRecord {
  readonly fault: string
  readonly part: string
  /** The process that injected it, and undoes it if it lives. */
  readonly owner: Known
  /** ms since the epoch. */
  readonly since: number
  /** In the order in which it was written down; undone the other way round. */
  readonly undo: readonly Undo[]
}

const folderOf = (dataDir: string) => path.join(dataDir, 'chaos')
let count = 0

/** Writes down that a fault begins. */
export async function openRecord(dataDir: string, fault: string, part: string) {
  count += 1
  const file = path.join(folderOf(dataDir), `${process.pid}-${count}.json`)
  let record: FaultRecord = { fault, part, owner: identify(process.pid), since: systemClock.now(), undo: [] }
  const write = () => writeWholeSynced(file, `${JSON.stringify(record)}\n`)
  await mkdir(folderOf(dataDir), { recursive: true, mode: 0o700 })
  await write()
  return {
    async add(undo: Undo): Promise<void> {
      record = { ...record, undo: [...record.undo, undo] }
      await write()
    },
    /** Undoes it and removes the record. */
    close: () => undoRecord(file, record),
  }
}

/** @throws CHAOS_NOT_UNDONE; the record remains then */
async function undoRecord(file: string, { fault, part, undo }: FaultRecord): Promise<void> {
  for (const one of undo.toReversed()) {
    await undoBy(one).catch((cause) => {
      throw new RungError(
        'CHAOS_NOT_UNDONE',
        `${fault} of ${part} was not undone: ${messageOf(cause)}. Try again: rung chaos clear`,
        { cause },
      )
    })
  }
  await rm(file, { force: true })
}

/** Returns the faults that are in force, or were left by a process that was killed. */
export async function faultRecords(dataDir: string): Promise<(FaultRecord & { file: string })[]> {
  const folder = folderOf(dataDir)
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json'))
  const found = await Promise.all(
    names.map(async (name) => {
      const file = path.join(folder, name)
      const text = await readFile(file, 'utf8').catch(() => '') // it has just been undone
      return text === '' ? [] : [{ ...(JSON.parse(text) as FaultRecord), file }]
    }),
  )
  return found.flat()
}

/** Undoes what processes have left that were killed. @throws CHAOS_NOT_UNDONE */
export async function undoLeft(dataDir: string): Promise<FaultRecord[]> {
  const left = (await faultRecords(dataDir)).filter(({ owner }) => !lives(owner))
  const undone = await Promise.allSettled(left.map(({ file, ...record }) => undoRecord(file, record)))
  const failed = undone.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
  return left
}

const endWithinMs = 30_000

/** Ends every `rung chaos` that runs on a data directory, and undoes what others have left. @throws CHAOS_NOT_UNDONE */
export async function undoAll(dataDir: string): Promise<FaultRecord[]> {
  const all = await faultRecords(dataDir)
  const owners = all.map(({ owner }) => owner).filter((owner) => owner.pid !== process.pid && lives(owner))
  for (const pid of new Set(owners.map((owner) => owner.pid))) process.kill(pid, 'SIGTERM')
  for (const giveUpAt = systemClock.ticks() + endWithinMs; owners.some(lives); await sleep(20)) {
    if (systemClock.ticks() < giveUpAt) continue
    const pids = owners.map(({ pid }) => pid).join(', ')
    throw new RungError('CHAOS_NOT_UNDONE', `"rung chaos" does not end (process ${pids}). Kill it, and try again.`)
  }
  await undoLeft(dataDir)
  return all
}
