import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import path from 'node:path'
import type { Catalogue } from '../../src/backup/catalogue.ts'
import { folderPlace } from '../../src/backup/folder.ts'
import { cataloguesOf } from '../../src/backup/place.ts'
import { currentTimeline } from '../../src/backup/policy.ts'
import { parseLsn } from '../../src/kernel/position.ts'
import { write } from './ledger.ts'
import { type Launched, type RungProcess, type Scratch, sameExit, until } from './process.ts'

/** Backups of a scratch, in a folder of it. */

/** A command as its users run it. */
export function launch(scratch: Scratch, command: readonly string[], env: Record<string, string> = {}): Launched {
  return scratch.launch({ command, env: { RUNG_BACKUP_DIR: backupDirOf(scratch), ...env } })
}

/** Its result, as `--json` gives it. */
export async function rung(scratch: Scratch, args: readonly string[], env: Record<string, string> = {}) {
  const command = launch(scratch, [...args, '--json'], env)
  const { code } = await command.exited
  assert.notEqual(command.stdout(), '', command.stderr())
  return { code, result: JSON.parse(command.stdout()), stderr: command.stderr() }
}

export async function done(scratch: Scratch, args: readonly string[], env: Record<string, string> = {}) {
  const { code, result, stderr } = await rung(scratch, args, env)
  assert.equal(code, 0, `${JSON.stringify(result)}\n${stderr}`)
  return result
}

export const backupDirOf = ({ dir }: Pick<Scratch, 'dir'>) => path.join(dir, 'backups')

/** The app, archiving. */
export function startArchiving(scratch: Scratch, dataDir = scratch.dataDir): Promise<RungProcess> {
  return scratch.start({ dataDir, env: { RUNG_BACKUP_DIR: backupDirOf(scratch), LOG_LEVEL: 'info' } })
}

export async function catalogueOf(scratch: Scratch): Promise<Catalogue | undefined> {
  return (await cataloguesOf(folderPlace(backupDirOf(scratch))))[0]
}

/** Until so many base backups are complete. */
export function bases(scratch: Scratch, count: number): Promise<Catalogue> {
  return until(async () => {
    const catalogue = await catalogueOf(scratch)
    return catalogue && catalogue.bases.length >= count && catalogue
  }, `there are ${count} base backups`)
}

/** Until everything that is committed by now is in the archive; the server's time of that. */
export async function archived(scratch: Scratch, dataDir = scratch.dataDir): Promise<number> {
  const sql = await scratch.connect(dataDir)
  const { rows } = await sql.query(
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as at, pg_current_wal_flush_lsn()::text as lsn',
  )
  const [{ at, lsn }] = rows
  await until(async () => {
    const catalogue = await catalogueOf(scratch)
    const position = catalogue && currentTimeline(catalogue)?.position
    return position && position.at > at && parseLsn(position.lsn)! >= parseLsn(lsn)!
  }, 'the archive has caught up')
  return Math.ceil(at)
}

/** One write after the other, and when each was acknowledged. */
export function startWriter(url: string, name: string) {
  const acknowledged = new Map<string, number>()
  let running = true
  const all = (async () => {
    for (let n = 0; running; n += 1) {
      const id = `${name}-${n}`
      try {
        await write({ url }, id)
        acknowledged.set(id, performance.now())
      } catch {
        return // it was killed
      }
    }
  })()
  return {
    acknowledged,
    more(count: number) {
      const wanted = acknowledged.size + count
      return until(() => acknowledged.size >= wanted, `${wanted} writes`)
    },
    async stop() {
      running = false
      await all
    },
  }
}

/**
 * Returns what was lost, in words. The promise is a second, on a machine that has time; on one that is busy the archiver is as late as all others.
 * @throws where a write is lost that was acknowledged long before the end
 */
export function lostOnlyTheLast(
  writers: readonly { acknowledged: ReadonlyMap<string, number> }[],
  found: readonly string[],
  killedAt: number,
): string {
  const ids = new Set(found)
  const all = writers.flatMap((writer) => [...writer.acknowledged])
  const lost = all.filter(([id]) => !ids.has(id))
  const oldest = Math.max(0, ...lost.map(([, at]) => killedAt - at))
  assert.ok(oldest <= 15_000, `a write acknowledged ${oldest} ms before the kill is lost`)
  return `${lost.length} of ${all.length} acknowledged writes lost; the oldest ${Math.round(oldest)} ms before the kill`
}

/** What the app says on a restored directory; it does not archive. */
export async function onRestored(
  scratch: Scratch,
  into: string,
  body: (app: RungProcess) => Promise<void>,
): Promise<void> {
  const app = await scratch.start({ dataDir: into })
  await body(app)
  sameExit(await app.stop(), 0)
}

/** Complete files of the archive, below the backup directory. */
export async function filesOf(scratch: Scratch, pattern: RegExp): Promise<string[]> {
  const names = await readdir(backupDirOf(scratch), { recursive: true })
  return names.filter((name) => pattern.test(name)).sort()
}
