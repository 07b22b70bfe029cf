import { hkdfSync } from 'node:crypto'
import { chmod, readFile, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { codeOf, writeAll, writeAtomically } from '../engines/disk/atomic.ts'
import { type Clock, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { type Keys, keysOf } from '../kernel/keys.ts'
import { secret } from '../kernel/random.ts'
import { linesOf, parseRoots } from '../topology/setting-types.ts'

/**
 * Keys for single purposes, derived from a root (HKDF-SHA-256, RFC 5869), and those of other roots that are accepted until their times.
 * @param lines the root, and in further lines the others, as in `RUNG_SECRET`
 */
export function deriveKeys(lines: string, clock: Clock = systemClock): (purpose: string) => Keys {
  const known = new Map<string, Keys>()
  const { root, also } = parseRoots(lines)!
  const all = [{ root, untilMs: Number.POSITIVE_INFINITY }, ...also]

  function make(purpose: string): Keys {
    const keys = all.map(({ root: from, untilMs }) => {
      const bytes = new Uint8Array(hkdfSync('sha256', from, 'rung', purpose, 32))
      return { key: keysOf(bytes).signing, untilMs }
    })
    const { key: signing } = keys[0]!
    return { signing, accepted: () => keys.filter(({ untilMs }) => clock.now() < untilMs).map(({ key }) => key) }
  }
  return (purpose) => {
    const keys = known.get(purpose) ?? make(purpose)
    known.set(purpose, keys)
    return keys
  }
}

/** Without it all tokens and cookies end: it belongs in a backup. */
export function rootFile(dataDir: string): string {
  return path.join(dataDir, 'secret')
}

/** The next root, which every process accepts before any signs with it. */
const nextFile = (dataDir: string) => `${rootFile(dataDir)}.next`

/** Returns the root kept in the data directory, made at the first start, and in further lines those that are accepted too. */
export async function storedRoot(dataDir: string): Promise<string> {
  const { root, lines } = await stored(dataDir)
  const next = await contentOf(nextFile(dataDir))
  return [root, ...(next === undefined || next === root ? [] : [next]), ...lines].join('\n')
}

async function stored(dataDir: string): Promise<{ root: string; lines: readonly string[] }> {
  const file = rootFile(dataDir)
  const found = await contentOf(file)
  if (found === undefined) {
    await writeNew(dataDir, file)
    return stored(dataDir)
  }
  if (!parseRoots(found)) {
    throw new RungError(
      'CONFIG_INVALID',
      `${file} is damaged. Restore it, or remove it: all tokens and cookies then end.`,
    )
  }
  await chmod(file, 0o600)
  const [root, ...lines] = linesOf(found)
  return { root: root!, lines }
}

async function contentOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch((cause) => {
    if (codeOf(cause) === 'ENOENT') return undefined
    const why = messageOf(cause)
    throw new RungError('CONFIG_INVALID', `${file} cannot be read: ${why}. Let the user of the app own it.`, { cause })
  })
}

/** Of two processes that write at the same time, the slower one takes the other's. */
async function writeNew(dataDir: string, file: string): Promise<void> {
  await write(dataDir, file, secret(48), false).catch((error) => {
    if (codeOf(error) !== 'EEXIST') throw error
  })
}

/** The file belongs to whom the data directory belongs: root may run the command. */
async function write(dataDir: string, file: string, text: string, replace: boolean): Promise<void> {
  await writeAtomically({ drafts: dataDir, target: file, replace }, async (draft) => {
    await writeAll(draft, Buffer.from(text), 0)
    const { uid, gid } = await stat(dataDir)
    await draft.chown(uid, gid)
  })
}

/** A next root that is older is made anew: it was left by a rotation that nobody repeated, and may have been stolen with the present one. */
const reusedMsMost = 3_600_000

/** The next root, and when it was made, in ms since the epoch. */
export interface NextRoot {
  readonly next: string
  readonly madeAt: number
}

async function nextRoot(dataDir: string): Promise<NextRoot | undefined> {
  const next = await contentOf(nextFile(dataDir))
  const found = await stat(nextFile(dataDir)).catch(() => undefined)
  return next !== undefined && found ? { next, madeAt: found.mtimeMs } : undefined
}

/**
 * The first step of a replacement: makes the next root, or finds the one of a replacement that was interrupted within the last hour. From their
 * next start all processes accept what it signs.
 * @throws FLEET_BUSY if another replacement ends meanwhile
 */
export async function prepareRoot(dataDir: string, clock: Clock = systemClock): Promise<NextRoot> {
  const { root } = await stored(dataDir)
  const left = await nextRoot(dataDir)
  const isOver = left?.next === root // the crash came after the second step
  if (left && (isOver || Math.abs(clock.now() - left.madeAt) > reusedMsMost))
    await rm(nextFile(dataDir), { force: true })
  await writeNew(dataDir, nextFile(dataDir))
  const made = await nextRoot(dataDir)
  if (!made) throw busy()
  return made
}

/**
 * The second step: the next root signs, and the present one is accepted until a time. From their next start all processes sign with it.
 * @param next what the first step has returned
 * @param keptMs for how long
 * @throws FLEET_BUSY if another replacement has come in between
 */
export async function switchRoot(
  dataDir: string,
  next: string,
  keptMs: number,
  clock: Clock = systemClock,
): Promise<void> {
  const { root, lines } = await stored(dataDir)
  if (root === next || (await contentOf(nextFile(dataDir))) !== next) throw busy()
  const until = new Date(clock.now() + keptMs).toISOString().replace(/\.\d+/, '')
  const isGood = (_: string, at: number) => parseRoots([root, ...lines].join('\n'))!.also[at]!.untilMs > clock.now()
  await write(dataDir, rootFile(dataDir), [next, `${root}@${until}`, ...lines.filter(isGood)].join('\n'), true)
  await rm(nextFile(dataDir), { force: true })
}

function busy(): RungError {
  return new RungError(
    'FLEET_BUSY',
    'Another rung secret rotate is in progress. Repeat this one when that is done, if you want a further root.',
  )
}
