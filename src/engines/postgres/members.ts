import { mkdir, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import { syncFolder, writeWholeSynced } from '../disk/atomic.ts'
import { claim } from '../process/pid-file.ts'
import type { Client } from './client.ts'
import { socketDirFor, synchronousNames } from './recipe.ts'
import { findServer, inUse, type ServerFiles, stopFoundServer } from './server.ts'

/**
 * The servers of one database that Rung runs on this machine, and which of them is the primary.
 *
 * - Each has a folder, a socket and a name that stay: `postgres` in `.rung/postgres`, `postgres-2` in `.rung/postgres-2/data`.
 * - `.rung/primary.json` says which one is the primary. It is written before a replica is promoted, so it holds after a crash too.
 * - `.rung/primary` leads to the socket of the primary. All replicas follow it there.
 */
export interface Primacy {
  readonly primary: string
  /**
   * Each acknowledged commit is on at least one of these replicas. If all of them are asked, the one with the most log has every
   * acknowledged commit. Empty: only the primary itself is known to have them.
   */
  readonly synchronous: readonly string[]
  /**
   * Former primaries whose place a replica has taken. What is in such a folder may contain commits that the successor does not have, unless it
   * has become a replica since. This is written together with the successor, so that no crash can come between.
   */
  readonly superseded: readonly string[]
}

/** The first primary; the only server where there are no replicas. */
export const firstMember = 'postgres'

/** In the data directory of a former primary, which is copied anew. */
const supersededMark = 'rung.superseded'

/** @param dataDir the folder `.rung` */
export function memberFiles(dataDir: string, name: string): ServerFiles {
  return filesOf({ root: name === firstMember ? dataDir : path.join(dataDir, name), name })
}

/** Returns where the files of a server are. */
export function filesOf(place: { root: string; name: string }): ServerFiles {
  const root = path.resolve(place.root)
  return {
    root,
    data: path.join(root, place.name === firstMember ? 'postgres' : 'data'),
    log: path.join(root, 'postgres.log'),
    socketDir: socketDirFor(root, tmpdir()),
  }
}

/** Returns the path that leads to the socket of whichever member is the primary. */
export function primaryLink(dataDir: string): string {
  const root = path.resolve(dataDir)
  const beside = socketDirFor(root, tmpdir())
  return path.dirname(beside) === root ? path.join(root, 'primary') : `${beside}-primary`
}

export async function readPrimacy(dataDir: string): Promise<Primacy> {
  const text = await readFile(recordOf(dataDir), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '{}'
    throw error
  })
  const { primary = firstMember, synchronous = [], superseded = [] } = JSON.parse(text) as Partial<Primacy>
  return { primary, synchronous, superseded }
}

/** Returns where the primary is now. */
export async function primaryPlace(dataDir: string): Promise<{ dataFolder: string; socketDir: string }> {
  const { data, socketDir } = memberFiles(dataDir, (await readPrimacy(dataDir)).primary)
  return { dataFolder: data, socketDir }
}

/** Writes it through to the disk, and points the link there. */
export async function writePrimacy(dataDir: string, primacy: Primacy): Promise<void> {
  await writeWholeSynced(recordOf(dataDir), `${JSON.stringify(primacy)}\n`)
  await pointLink(dataDir, primacy.primary)
}

/** Marks the folder of a member that is to be a replica, if another one has taken its place while it was the primary. */
export async function markIfSuperseded(dataDir: string, name: string): Promise<void> {
  const { superseded } = await readPrimacy(dataDir)
  const { data } = memberFiles(dataDir, name)
  if (superseded.includes(name) && (await isPrimaryData(data))) await mark(data)
}

/**
 * Checks that the record can be relied on before a replica is promoted because of it. A record that was put back from elsewhere could name a
 * replica that is behind, while the commits of the real primary are in another folder.
 * @throws DATA_DIR_PRIMARY
 */
export async function checkRecord(dataDir: string, primary: string): Promise<void> {
  if (await isPrimaryData(memberFiles(dataDir, primary).data)) return
  const { superseded } = await readPrimacy(dataDir)
  const names = (await readdir(dataDir)).filter((name) => name === firstMember || /^postgres-\d+$/.test(name))
  for (const name of names) {
    const { data } = memberFiles(dataDir, name)
    if (name === primary || superseded.includes(name) || !(await isPrimaryData(data))) continue
    throw new RungError(
      'DATA_DIR_PRIMARY',
      `${recordOf(dataDir)} names ${primary} as the primary, whose folder is that of a replica, and ${data} is the data of a primary. Write "${name}" into the file if that one has the latest data; otherwise move ${data} away.`,
    )
  }
}

/** Whether there is the data of a server that is or was a primary, and was not superseded. */
async function isPrimaryData(data: string): Promise<boolean> {
  const names: readonly string[] = await readdir(data).catch(() => [])
  return names.includes('PG_VERSION') && !names.includes('standby.signal') && !names.includes(supersededMark)
}

async function mark(data: string): Promise<void> {
  await writeFile(path.join(data, supersededMark), '', { mode: 0o600 })
  await syncFolder(data)
}

export async function isSuperseded(data: string): Promise<boolean> {
  return exists(path.join(data, supersededMark))
}

/**
 * Makes `.rung/postgres` the folder of the primary again, while no server runs. What the folder contained before, a former primary or a
 * replica, takes the other's place. It may be interrupted at any point and is then completed by the next call.
 * @throws DATA_DIR_IN_USE while the primary runs elsewhere
 */
export async function bringHome(dataDir: string): Promise<void> {
  const { primary, superseded } = await readPrimacy(dataDir)
  if (primary === firstMember) return
  const home = memberFiles(dataDir, firstMember)
  const away = memberFiles(dataDir, primary)
  const aside = `${away.data}.old-${process.pid}` // an abandoned one is removed by the replica's next start
  const claimed = await claim(away.root, primary)
  try {
    for (const { data, root } of [home, away]) {
      const found = await findServer(data)
      if (found?.owned) throw inUse(root)
      if (found) await stopFoundServer(data, found)
    }
    if (await exists(away.data)) {
      if (await exists(home.data)) {
        if (await isPrimaryData(home.data)) await mark(home.data)
        await rename(home.data, aside)
      }
      await rename(away.data, home.data)
      await syncFolder(home.root)
      await syncFolder(away.root)
    }
    const others = superseded.filter((name) => name !== firstMember && name !== primary)
    await writePrimacy(dataDir, { primary: firstMember, synchronous: [], superseded: others })
    if (await exists(aside)) await rename(aside, away.data)
  } finally {
    await claimed.release()
  }
}

/** Sets for which replicas commits on this primary wait: for any one of them. It takes effect a moment later. */
export async function setSynchronous(primary: Client, names: readonly string[]): Promise<void> {
  const value = synchronousNames(names)
  if ((await synchronousSetting(primary)) === value) return
  await primary.query(`alter system set synchronous_standby_names = '${value}'`)
  await primary.query('select pg_reload_conf()')
}

/** Returns `synchronous_standby_names` as this session knows it. */
export async function synchronousSetting(primary: Client): Promise<string> {
  const { rows } = await primary.query('show synchronous_standby_names')
  return (rows[0] as { synchronous_standby_names: string }).synchronous_standby_names
}

const promoteWithinS = 60

/**
 * Makes sure that a server is a primary that waits for no replica yet.
 * @throws if it has not become one in time
 */
export async function lead(keeper: Client): Promise<void> {
  const { rows } = await keeper.query(
    `select case when pg_is_in_recovery() then pg_promote(true, ${promoteWithinS}) else true end as leads`,
  )
  if (!rows[0].leads) throw new Error(`it has not become a primary within ${promoteWithinS} s`)
  await setSynchronous(keeper, []) // they may not be there
}

/** Makes the link lead to this server. */
export async function pointLink(dataDir: string, name: string): Promise<void> {
  const link = primaryLink(dataDir)
  const { socketDir } = memberFiles(dataDir, name)
  if ((await readlink(link).catch(() => undefined)) === socketDir) return
  const draft = `${link}.new`
  await mkdir(path.dirname(link), { recursive: true, mode: 0o700 })
  await rm(draft, { force: true })
  await symlink(socketDir, draft)
  await rename(draft, link)
}

function recordOf(dataDir: string): string {
  return path.join(path.resolve(dataDir), 'primary.json')
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  )
}
