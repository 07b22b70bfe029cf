import { constants } from 'node:fs'
import { access, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { isRunning } from '../process/is-running.ts'
import { postgresMajor } from './recipe.ts'

/** The paths of the folder `.rung/`. */
export interface DataDir {
  root: string
  postgres: string
  log: string
}

const marker = 'rung.json'
const layout = 1

/**
 * Makes sure that `root` belongs to Rung, is usable and of this version; creates it if it does not exist.
 * @throws DATA_DIR_UNWRITABLE, DATA_DIR_FOREIGN, DATA_DIR_VERSION
 */
export async function openDataDir(root: string): Promise<DataDir> {
  const draft = draftIn(root)
  try {
    await createWritable(root, draft)
    await checkMarker(root)
    await removeDrafts(root)
  } finally {
    await rm(draft, { force: true }).catch(() => {})
  }
  const postgres = path.join(root, 'postgres')
  await checkVersion(postgres)
  return { root, postgres, log: path.join(root, 'postgres.log') }
}

/** Files that do not matter; a start that was killed leaves a draft of the marker. */
const ignored = /^(lost\+found|\.DS_Store|\.rung\.json-\d+)$/

async function createWritable(root: string, draft: string): Promise<void> {
  try {
    await makeFolder(root)
    if (!(await stat(root)).isDirectory()) throw new Error('not a directory')
    await access(root, constants.W_OK | constants.X_OK)
    // Root passes every access check, even on a read-only file system. A full one can still be read.
    await writeFile(draft, '', { mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOSPC' && error.code !== 'EDQUOT') throw error
    })
  } catch (cause) {
    throw new RungError(
      'DATA_DIR_UNWRITABLE',
      `The data directory ${root} cannot be written (${messageOf(cause)}). Give this user write access, or set RUNG_DATA to another folder.`,
      { cause },
    )
  }
}

/** Node's own `recursive` never returns below /proc, where creating a folder in an existing one fails with ENOENT. */
async function makeFolder(folder: string): Promise<void> {
  const made = async () => mkdir(folder, { mode: 0o700 }).then(() => undefined)
  const tolerant = (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  }
  await made().catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' || path.dirname(folder) === folder) return tolerant(error)
    await makeFolder(path.dirname(folder))
    await made().catch(tolerant)
  })
}

async function checkMarker(root: string): Promise<void> {
  const names = await readdir(root)
  if (!names.includes(marker)) {
    const foreign = names.filter((name) => !ignored.test(name))
    if (foreign.length > 0) {
      throw new RungError(
        'DATA_DIR_FOREIGN',
        `${root} is not empty and was not created by Rung (it holds ${foreign.slice(0, 3).join(', ')}). Set RUNG_DATA to an empty or a new folder.`,
      )
    }
    await writeMarker(root)
    return
  }
  const found = (await readMarker(root))?.layout
  if (found !== layout) {
    throw new RungError(
      'DATA_DIR_VERSION',
      `${root} was created by another version of Rung (layout ${found}, this one has ${layout}). Use that version, or set RUNG_DATA to a new folder.`,
    )
  }
}

interface Marker {
  layout: number
  postgres: number
  /** Whoever starts something on this directory, no setting leads it outside: it is there for trials. */
  isolated?: true
}

/** Marks `root` as Rung's; the marker exists completely or not at all. */
export async function writeMarker(root: string, { isolated = false } = {}): Promise<void> {
  const draft = draftIn(root)
  const content: Marker = { layout, postgres: postgresMajor, ...(isolated && { isolated }) }
  await writeFile(draft, `${JSON.stringify(content)}\n`, { mode: 0o600 })
  await rename(draft, path.join(root, marker))
}

/**
 * Whether the settings of what runs here must not lead outside: a staging copy, or the fleet of a proof.
 * @throws DATA_DIR_FOREIGN if the marker cannot be read: then nobody knows
 */
export async function isIsolated(root: string): Promise<boolean> {
  return (await readMarker(root))?.isolated === true
}

/** Returns undefined if there is none. */
async function readMarker(root: string): Promise<Marker | undefined> {
  const file = path.join(root, marker)
  try {
    const found = JSON.parse(await readFile(file, 'utf8')) as Marker | null
    if (typeof found?.layout === 'number') return found
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code!)) return undefined
  }
  throw new RungError(
    'DATA_DIR_FOREIGN',
    `${file} cannot be read as Rung's marker. Restore it, or set RUNG_DATA to another folder.`,
  )
}

const draftIn = (root: string) => path.join(root, `.${marker}-${process.pid}`)

async function checkVersion(postgres: string): Promise<void> {
  const text = await readFile(path.join(postgres, 'PG_VERSION'), 'utf8').catch(() => undefined)
  if (text === undefined) {
    const files = await readdir(postgres).catch(() => [])
    if (files.length === 0) return
    throw new RungError(
      'DATA_DIR_FOREIGN',
      `${postgres} is not a Postgres data directory. Set RUNG_DATA to a new folder.`,
    )
  }
  if (Number(text.trim()) !== postgresMajor) {
    throw new RungError(
      'DATA_DIR_VERSION',
      `${postgres} belongs to Postgres ${text.trim()}; this Rung contains Postgres ${postgresMajor}. Dump it with that version and restore into a new RUNG_DATA.`,
    )
  }
}

/** Removes the drafts of killed processes. */
async function removeDrafts(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const pid = name.startsWith(`.${marker}-`) ? Number(name.slice(marker.length + 2)) : Number.NaN
    if (Number.isInteger(pid) && pid !== process.pid && !isRunning(pid))
      await rm(path.join(root, name), { force: true })
  }
}
