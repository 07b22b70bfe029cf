import { type Data, defineJob, type Files, type JobRun, type Jobs, type Tx } from 'rung'
import { Type } from 'typebox'
import { refuse } from '../errors.ts'
import { shownUrl } from '../public-url.ts'
import { type Calls, contentOf } from './content.ts'

const attempts = 5

export const writeExport = defineJob(
  'exports.write',
  Type.Object({ exportId: Type.Integer(), accountId: Type.Integer() }),
  { attempts, concurrency: 2, timeout: '10m', backoff: { max: '1m' }, key: ({ accountId }) => String(accountId) },
)
export const removeEnded = defineJob('exports.remove-ended', Type.Object({}), { fleetConcurrency: 1 })

/** Longer than all tries together take. */
const writingMax = '2 hours'
const keptFor = '24 hours'
const removedAtOnce = 100

export interface ExportRow {
  id: number
  state: 'running' | 'done' | 'failed'
  job_id: number | null
  created_at: Date
  ends_at: Date
}

export interface Export {
  id: number
  state: ExportRow['state']
  /** 0 … 1 */
  progress: number
  createdAt: Date
  /** Until when it can be fetched. */
  expiresAt: Date | null
  statusUrl: string
  /** Good for some minutes; ask again for another. */
  downloadUrl: string | null
}

const keyOf = (exportId: number) => `exports/${exportId}.json`

/** The one that runs already, or a new one. */
export async function requestExport(data: Data, jobs: Jobs, accountId: number): Promise<ExportRow> {
  await failDead(data, jobs, accountId)
  return data.write(async (tx) => {
    for (;;) {
      const [fresh] = await tx<ExportRow>`
        insert into exports.export (account_id, ends_at) values (${accountId}, now() + ${writingMax}::interval)
        on conflict (account_id) where state = 'running' do nothing
        returning id, state, job_id, created_at, ends_at`
      if (fresh) {
        tx.enqueue(writeExport, { exportId: fresh.id, accountId })
        return fresh
      }
      const [running] = await tx<ExportRow>`
        select id, state, job_id, created_at, ends_at from exports.export
        where account_id = ${accountId} and state = 'running'`
      if (running) return running // otherwise it has ended in between
    }
  })
}

/** One whose job has died, by its time limit or with its processes, does not keep the account from another. */
async function failDead(data: Data, jobs: Jobs, accountId: number): Promise<void> {
  const [running] = await data.read(
    (sql) => sql<{ id: number; job_id: number }>`
      select id, job_id from exports.export where account_id = ${accountId} and state = 'running' and job_id is not null`,
  )
  if (!running || (await jobs.find(running.job_id))?.state !== 'dead') return
  await data.write(
    (tx) => tx`update exports.export set state = 'failed' where id = ${running.id} and state = 'running'`,
  )
}

export async function exportOf(data: Data, accountId: number, id: number): Promise<ExportRow> {
  const [row] = await data.read(
    (sql) => sql<ExportRow>`
      select id, state, job_id, created_at, ends_at from exports.export
      where id = ${id} and account_id = ${accountId} and ends_at > now()`,
  )
  if (!row) throw refuse('HTTP_NOT_FOUND', 'export', 'not found')
  return row
}

export async function present(row: ExportRow, jobs: Jobs, files: Files): Promise<Export> {
  const job = row.state === 'running' && row.job_id !== null ? await jobs.find(row.job_id) : undefined
  const state = job?.state === 'dead' ? 'failed' : row.state
  const done = state === 'done'
  const name = { expires: '15m', filename: 'conduit-export.json' } as const
  return {
    id: row.id,
    state,
    progress: done ? 1 : (job?.progress?.share ?? 0),
    createdAt: row.created_at,
    expiresAt: done ? row.ends_at : null,
    statusUrl: shownUrl(`/api/user/export/${row.id}`),
    downloadUrl: done ? shownUrl(files.url(keyOf(row.id), name)) : null,
  }
}

/** The file first, then the row that says it is there. Another run writes the same file again. */
export async function write(
  { data, files, calls }: { data: Data; files: Files; calls: Calls },
  { exportId, accountId }: { exportId: number; accountId: number },
  run: JobRun<Tx>,
): Promise<void> {
  const wanted = await data.write(
    (tx) => tx`update exports.export set job_id = ${run.id} where id = ${exportId} and state = 'running' returning id`,
  )
  if (wanted.length === 0) return
  try {
    await files.put(
      keyOf(exportId),
      contentOf(calls, accountId, (share) => run.progress(share)),
      { sizeMax: '10GiB' },
    )
  } catch (error) {
    if (run.attempt >= attempts && !run.signal.aborted) await fail(data, files, exportId)
    throw error
  }
  const done = await run.complete(
    (tx) => tx`
      update exports.export set state = 'done', ends_at = now() + ${keptFor}::interval
      where id = ${exportId} and state = 'running' returning id`,
  )
  if (done.length === 0) await files.delete(keyOf(exportId)) // it was given up meanwhile
}

async function fail(data: Data, files: Files, exportId: number): Promise<void> {
  await files.delete(keyOf(exportId))
  await data.write(
    (tx) => tx`
      update exports.export set state = 'failed', ends_at = now() + ${keptFor}::interval where id = ${exportId}`,
  )
}

/** The file first: a row that is left finds it again. */
export async function removeOld(data: Data, files: Files): Promise<void> {
  for (;;) {
    const old = await data.write(
      (tx) =>
        tx<{
          id: number
        }>`select id from exports.export where ends_at <= now() order by ends_at limit ${removedAtOnce}`,
    )
    if (old.length === 0) return
    for (const { id } of old) await files.delete(keyOf(id))
    await data.write((tx) => tx`delete from exports.export where id = any(${old.map(({ id }) => id)})`)
  }
}
