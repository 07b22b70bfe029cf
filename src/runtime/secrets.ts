import { hkdfSync } from 'node:crypto'
import { chmod, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { codeOf, writeAll, writeAtomically, writeWholeSynced } from '../engines/disk/atomic.ts'
import { type Clock, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Keys, keysOf } from '../kernel/keys.ts'
import { secret } from '../kernel/random.ts'
import { parseRoot } from '../topology/setting-types.ts'

/** The roots of all keys. */
export interface Roots {
  /** All keys that sign are derived from this one. */
  readonly root: string
  /** Roots whose signatures are accepted too, as in `RUNG_SECRET_ALSO`: the next one or former ones, which may end with `@` and a time. */
  readonly also: readonly string[]
}

/** Keys for single purposes, all derived from one root (HKDF-SHA-256, RFC 5869), or accepted from others until their times. */
export function deriveKeys({ root, also }: Roots, clock: Clock = systemClock): (purpose: string) => Keys {
  const known = new Map<string, Keys>()
  const others = also.map((one) => parseRoot(one)!)
  const derived = (from: string, purpose: string) =>
    keysOf(new Uint8Array(hkdfSync('sha256', from, 'rung', purpose, 32))).signing

  function make(purpose: string): Keys {
    const signing = derived(root, purpose)
    const all = [
      { key: signing, untilMs: Number.POSITIVE_INFINITY },
      ...others.map((one) => ({ key: derived(one.root, purpose), untilMs: one.untilMs })),
    ]
    return { signing, accepted: () => all.filter(({ untilMs }) => clock.now() < untilMs).map(({ key }) => key) }
  }
  return (purpose) => {
    const keys = known.get(purpose) ?? make(purpose)
    known.set(purpose, keys)
    return keys
  }
}

/** Those of the settings, otherwise those in the data directory. */
export async function rootsOf({
  secret: root,
  secretAlso: also,
  dataDir,
}: {
  readonly secret: string | undefined
  readonly secretAlso: readonly string[]
  readonly dataDir: string
}): Promise<Roots> {
  if (root !== undefined) return { root, also }
  const stored = await storedRoots(dataDir)
  return { root: stored.root, also: [...stored.also, ...also] }
}

/** A line with the root, and one for each former root. Without it all tokens and cookies end: it belongs in a backup. */
export function rootFile(dataDir: string): string {
  return path.join(dataDir, 'secret')
}

/** The next root, which every process accepts before any signs with it. */
const nextFile = (dataDir: string) => `${rootFile(dataDir)}.next`

/** The roots kept in the data directory, made at the first start. */
export async function storedRoots(dataDir: string): Promise<Roots> {
  const file = rootFile(dataDir)
  const [root = '', ...former] = await linesOf(dataDir, file)
  if (root.length < 32 || !former.every(parseRoot)) {
    throw new RungError(
      'CONFIG_INVALID',
      `${file} is damaged. Restore it, or remove it: all tokens and cookies then end.`,
    )
  }
  await chmod(file, 0o600)
  const next = await readFile(nextFile(dataDir), 'utf8').catch(() => undefined)
  return { root, also: [...former, ...(next === undefined || next === root ? [] : [next])] }
}

async function linesOf(dataDir: string, file: string): Promise<string[]> {
  const found = await readFile(file, 'utf8').catch(() => undefined)
  if (found !== undefined) return found.split('\n').filter(Boolean)
  await writeNew(dataDir, file)
  return [await readFile(file, 'utf8')]
}

/** Of two processes that write at the same time, the slower one takes the other's. */
async function writeNew(dataDir: string, file: string): Promise<void> {
  const place = { drafts: dataDir, target: file, replace: false }
  const fill = writeAtomically(place, (draft) => writeAll(draft, Buffer.from(secret(48)), 0))
  await fill.catch((error) => {
    if (codeOf(error) !== 'EEXIST') throw error
  })
}

/**
 * The first step of a rotation: makes the next root, or finds one that an interrupted rotation has left. From their next start all processes
 * accept what it signs.
 * @returns whether it is new
 */
export async function prepareRoot(dataDir: string): Promise<boolean> {
  const { root } = await storedRoots(dataDir)
  const next = await readFile(nextFile(dataDir), 'utf8').catch(() => undefined)
  if (next === root) await rm(nextFile(dataDir)) // the crash came after the second step
  await writeNew(dataDir, nextFile(dataDir))
  return next === undefined || next === root
}

/**
 * The second step: the next root signs, and the present one is accepted until a time. From their next start all processes sign with it.
 * @param keptMs for how long
 */
export async function switchRoot(dataDir: string, keptMs: number, clock: Clock = systemClock): Promise<void> {
  const { root, also } = await storedRoots(dataDir)
  const next = await readFile(nextFile(dataDir), 'utf8')
  const until = new Date(clock.now() + keptMs).toISOString().replace(/\.\d+/, '')
  const stillGood = also.filter((one) => one !== next && parseRoot(one)!.untilMs > clock.now())
  await writeWholeSynced(rootFile(dataDir), [next, `${root}@${until}`, ...stillGood].join('\n'))
  await rm(nextFile(dataDir))
}
