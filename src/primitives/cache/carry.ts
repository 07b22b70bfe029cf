import { createHash } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { codeOf, removeAbandoned, writeAll, writeAtomically } from '../../engines/disk/atomic.ts'
import { type Clock, systemClock } from '../../kernel/clock.ts'
import { uuid } from '../../kernel/random.ts'
import type { CacheCore, HandedOver } from './cache.ts'
import { decode, encode } from './coding.ts'
import type { InvalidationLog } from './contract.ts'
import type { SharedEntry } from './entry.ts'

/**
 * The hottest part of a process' memory, from its clean stop to the next start:
 *
 *     form, u32, about (JSON)     whose it is, and how far in the log it is known to be good
 *     u32, u32, key, entry …      the hottest first; an entry as in the shared layer
 *     sha-256 of all that
 *
 * It is good only together with the log: the next start asks what came since its mark, and drops what that concerns. That the log still
 * reaches back to the mark, and is the same log (no other database, no restore to a time before), is seen from the *seal*, a row with a name
 * of its own that was written after the mark: it must be among what came. Transactions are counted by the server's cluster, so a copy of
 * the rows in another cluster would have the seal and yet count anew: hence its origin.
 */
const form = Buffer.from('rung cache 1\n')
const digestBytes = 32
const fileBytesMax = 16 * 1024 ** 2
/** For a deploy. Later more would have to be asked of the log than the entries are worth. */
const ageMsMax = 600_000

interface About {
  app: string
  origin: string
  mark: string
  seal: string
  at: number
}

export interface Carrying {
  core: CacheCore
  log: InvalidationLog
  app: string
  file: string
  clock?: Clock
}

/** Gives how many entries it has left for the next process. `prepare` makes the place where the file is. */
export async function leaveEntries(
  { core, log, app, file, clock = systemClock }: Carrying,
  prepare: () => Promise<unknown>,
): Promise<number> {
  const handed = await core.handOver()
  if (handed === undefined) return 0
  const origin = await log.origin()
  const seal = `/seal:${uuid()}` // of no module
  await log.seal(seal)
  const { count, bytes } = pack({ app, origin, mark: handed.mark, seal, at: clock.now() }, handed.entries)
  await prepare()
  const place = { drafts: path.join(path.dirname(file), '.drafts'), target: file, replace: true }
  await writeAtomically(place, (draft) => writeAll(draft, bytes, 0))
  return count
}

/** Gives how many entries are there again, or why none is. Without a file: `undefined`. */
export async function takeEntries({
  core,
  log,
  app,
  file,
  clock = systemClock,
}: Carrying): Promise<number | string | undefined> {
  await removeAbandoned(path.join(path.dirname(file), '.drafts'))
  const bytes = await readFile(file).catch((error) => {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  })
  if (bytes === undefined) return undefined
  await rm(file)
  const found = unpack(bytes)
  if (found === undefined) return 'it is damaged, or of another version'
  const { about, entries } = found
  const ageMs = clock.now() - about.at
  if (about.app !== app) return 'it is of another app'
  if (!(ageMs >= 0 && ageMs <= ageMsMax)) return 'it is too old'
  if (about.origin !== (await log.origin())) return 'it is of another database'
  const { rows, mark } = await log.since(about.mark)
  const gone = new Set(rows.flatMap(({ tags }) => tags))
  if (!gone.has(about.seal)) return 'the log of the database does not have what came since'
  const good = entries.filter(([, { names }]) => !names.some((name) => gone.has(name)))
  await core.takeOver({ mark, entries: good })
  return good.length
}

function pack(about: About, entries: HandedOver['entries']): { count: number; bytes: Buffer } {
  const text = Buffer.from(JSON.stringify(about))
  const parts = [form, lengths(text.length), text]
  let size = 0
  let count = 0
  for (const [key, entry] of entries) {
    const [name, body] = [Buffer.from(key), encode(entry, 0)]
    size += name.length + body.length
    if (size > fileBytesMax) break
    parts.push(lengths(name.length, body.length), name, body)
    count += 1
  }
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return { count, bytes: Buffer.concat([...parts, hash.digest()]) }
}

function unpack(bytes: Buffer): { about: About; entries: HandedOver['entries'] } | undefined {
  const end = bytes.length - digestBytes
  if (!bytes.subarray(0, form.length).equals(form)) return undefined
  if (!createHash('sha256').update(bytes.subarray(0, end)).digest().equals(bytes.subarray(end))) return undefined
  let at = form.length
  const take = (length: number) => {
    at += length
    return bytes.subarray(at - length, at)
  }
  const number = () => take(4).readUInt32LE()
  const about = JSON.parse(take(number()).toString()) as About
  const entries: [string, SharedEntry][] = []
  while (at < end) {
    const [keyLength, bodyLength] = [number(), number()]
    const key = take(keyLength).toString()
    const decoded = decode(take(bodyLength))
    if (decoded) entries.push([key, decoded.entry]) // else of another version of what packs entries
  }
  return { about, entries }
}

function lengths(...all: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * all.length)
  for (const [index, one] of all.entries()) bytes.writeUInt32LE(one, 4 * index)
  return bytes
}
