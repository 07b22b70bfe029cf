import { constants } from 'node:fs'
import { access, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { postgresMajor } from './recipe.ts'

/** The folder `.rung/` and what lies in it. */
export interface DataDir {
  root: string
  postgres: string
  log: string
}

const marker = 'rung.json'
const layout = 1

/**
 * Makes sure that `root` is Rung's own, usable and of this version, and creates it when it is not there.
 * @throws DATA_DIR_UNWRITABLE, DATA_DIR_FOREIGN, DATA_DIR_VERSION
 */
export async function openDataDir(root: string): Promise<DataDir> {
  await createWritable(root)
  await checkMarker(root)
  const postgres = path.join(root, 'postgres')
  await checkVersion(postgres)
  return { root, postgres, log: path.join(root, 'postgres.log') }
}

async function createWritable(root: string): Promise<void> {
  try {
    await mkdir(root, { recursive: true, mode: 0o700 })
    if (!(await stat(root)).isDirectory()) throw new Error('not a directory')
    await access(root, constants.W_OK | constants.X_OK)
    const probe = path.join(root, '.probe')
    await writeFile(probe, '') // root passes every access check; a read-only file system shows only here
    await rm(probe)
  } catch (cause) {
    throw new RungError(
      'DATA_DIR_UNWRITABLE',
      `The data directory ${root} cannot be written (${messageOf(cause)}). Give this user the right to, or set RUNG_DATA to another folder.`,
      { cause },
    )
  }
}

async function checkMarker(root: string): Promise<void> {
  const file = path.join(root, marker)
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) {
    const foreign = (await readdir(root)).filter((name) => name !== 'lost+found' && name !== '.DS_Store')
    if (foreign.length > 0) {
      throw new RungError(
        'DATA_DIR_FOREIGN',
        `${root} is not empty and was not made by Rung (it holds ${foreign.slice(0, 3).join(', ')}). Set RUNG_DATA to an empty or a new folder.`,
      )
    }
    await writeFile(file, `${JSON.stringify({ layout, postgres: postgresMajor })}\n`, { mode: 0o600 })
    return
  }
  let found: number | undefined
  try {
    found = (JSON.parse(text) as { layout?: number }).layout
  } catch (cause) {
    throw new RungError(
      'DATA_DIR_FOREIGN',
      `${file} cannot be read as Rung's marker. Set RUNG_DATA to another folder.`,
      {
        cause,
      },
    )
  }
  if (found !== layout) {
    throw new RungError(
      'DATA_DIR_VERSION',
      `${root} was made by another version of Rung (layout ${found}, this one has ${layout}). Use that version, or set RUNG_DATA to a new folder.`,
    )
  }
}

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
      `${postgres} belongs to Postgres ${text.trim()}; this Rung brings Postgres ${postgresMajor}. Dump it with that version and restore into a new RUNG_DATA.`,
    )
  }
}
