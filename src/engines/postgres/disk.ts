import { open, rm, stat, statfs } from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../../kernel/clock.ts'
import { messageOf } from '../../kernel/errors.ts'
import { secret } from '../../kernel/random.ts'
import type { Client } from './client.ts'
import { archiverSlot } from './recipe.ts'

const mebibyte = 1024 ** 2
/** One segment of the write-ahead log (16 MiB), and some room for what a recovery adds to the tables. */
const pieceBytes = 20 * mebibyte
const pieces = ['reserve-1', 'reserve-2']

/** With less free space a checkpoint is run, which frees log that is no longer needed (up to 2 GB). */
const checkpointBelow = 96 * mebibyte
const checkpointEveryMs = 10_000
/** With less free space writes are refused, until there is enough again. Two segments, and what is written between two checks. */
const refuseBelow = 32 * mebibyte
const acceptFrom = 64 * mebibyte

/** The log kept for an absent archiver goes first: a new base backup replaces it. */
const forgetArchiver = `select pg_drop_replication_slot(slot_name) from pg_replication_slots
  where slot_name = '${archiverSlot}' and not active`

/**
 * Keeps the database readable on a full disk. Postgres panics when it cannot extend its write-ahead log, and its crash recovery
 * needs a new segment of that log before it answers even readers. Therefore:
 * - While little space is free, new transactions are read-only. A disk that fills slowly gets no further than this.
 * - A reserve lies beside the database. A start that fails for lack of space frees a piece of it and is tried again.
 */
export interface DiskGuard {
  /** Called after a failed start. Returns whether space was freed, so that another attempt makes sense. */
  makeRoom(reason: string): Promise<boolean>
  /** Checks the disk, makes the server refuse or accept writes, and renews the reserve. */
  look(admin: Client): Promise<void>
}

/** The messages of operating systems. */
export const outOfSpace = /No space left|quota exceeded/i

export type DiskEvent = 'full' | 'freed'

export function diskGuard(root: string, onChange: (event: DiskEvent, detail: string) => void): DiskGuard {
  let refusing: boolean | undefined
  let lastCheckpoint = Number.NEGATIVE_INFINITY
  let looking: Promise<void> | undefined

  async function free(): Promise<number> {
    const { bavail, bsize } = await statfs(root)
    return bavail * bsize
  }

  async function missing(): Promise<string[]> {
    const sizes = await Promise.all(
      pieces.map((name) =>
        stat(path.join(root, name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
    )
    return pieces.filter((_, index) => sizes[index] !== pieceBytes)
  }

  async function refuse(admin: Client, wanted: boolean): Promise<void> {
    if (refusing === undefined) {
      const { rows } = await admin.query('show default_transaction_read_only')
      refusing = rows[0].default_transaction_read_only === 'on'
    }
    if (refusing === wanted) return
    // In a file of the server, so that it holds from the first moment of the next start.
    const statement = `alter system ${wanted ? 'set default_transaction_read_only = on' : 'reset default_transaction_read_only'}`
    await admin.query(statement).catch(async (error) => {
      if (!(await makeRoom(messageOf(error)))) throw error // not even that file can be written
      await admin.query(statement)
    })
    await admin.query('select pg_reload_conf()')
    refusing = wanted
    if (wanted) onChange('full', `The disk of ${root} is full: writes are refused, reads continue. Free space on it.`)
    else onChange('freed', `The disk of ${root} has space again: writes are accepted.`)
  }

  async function lookOnce(admin: Client): Promise<void> {
    const [bytes, gone] = await Promise.all([free(), missing()])
    if (bytes < checkpointBelow && systemClock.ticks() - lastCheckpoint > checkpointEveryMs) {
      lastCheckpoint = systemClock.ticks()
      // First, because a checkpoint takes time in which writers would continue.
      if (bytes < refuseBelow) await refuse(admin, true)
      await admin.query(forgetArchiver)
      await admin.query('checkpoint')
      return
    }
    if (bytes < refuseBelow) return refuse(admin, true)
    if (bytes >= acceptFrom + gone.length * pieceBytes) {
      // `free` does not see an exhausted quota; renewing the reserve does.
      const renewed = await renew(root, gone).then(
        () => true,
        () => false,
      )
      await refuse(admin, !renewed)
    }
  }

  async function makeRoom(reason: string): Promise<boolean> {
    // On a full disk the server may be unable to log the reason.
    if (!outOfSpace.test(reason) && (await free()) >= pieceBytes) return false
    const gone = await missing()
    const piece = pieces.find((name) => !gone.includes(name))
    if (piece === undefined) return false
    await rm(path.join(root, piece))
    return true
  }

  return {
    makeRoom,
    look(admin) {
      looking ??= lookOnce(admin).finally(() => {
        looking = undefined
      })
      return looking
    },
  }
}

/** Random bytes: a file system could compress or skip others. */
async function renew(root: string, names: readonly string[]): Promise<void> {
  const block = Buffer.from(secret(mebibyte)).subarray(0, mebibyte)
  for (const name of names) {
    const file = path.join(root, name)
    const handle = await open(file, 'w', 0o600)
    try {
      for (let at = 0; at < pieceBytes; at += block.length) await handle.write(block, 0, block.length, at)
    } catch (error) {
      await rm(file, { force: true })
      throw error
    } finally {
      await handle.close()
    }
  }
}
