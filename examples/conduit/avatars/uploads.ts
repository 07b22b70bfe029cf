import { type Data, defineJob, type Files, type JobRun, type SqlTag, type Tx } from 'rung'
import { Type } from 'typebox'
import { refuse } from '../errors.ts'
import { accountKey } from '../identity/events.ts'
import { AvatarChanged } from './events.ts'
import { BadPicture, squaresOf } from './picture.ts'
import { avatarUrl, bytesMax, originalKey, sizeKey, sizes } from './places.ts'

const OfUpload = Type.Object({ uploadId: Type.Integer(), accountId: Type.Integer() })
type OfUpload = { uploadId: number; accountId: number }

/** One of an account at a time: nothing is removed while something is being made of it. Decoding takes a whole core. */
const limits = { queue: 'avatars', concurrency: 2, key: ({ accountId }: OfUpload) => String(accountId) }
const attempts = 5
export const resize = defineJob('avatars.resize', OfUpload, { ...limits, attempts, backoff: { max: '30s' } })
export const tidy = defineJob('avatars.tidy', OfUpload, limits)
export const sweep = defineJob('avatars.sweep', Type.Object({}), { fleetConcurrency: 1 })

const abandonedAfter = '1 hour'
const sweptAtOnce = 100

export interface Avatar {
  state: 'none' | 'processing' | 'ready' | 'failed'
  /** Of the last upload, when that failed. */
  error: string | null
  /** The last one that is ready. */
  image: string | null
}

interface UploadRow {
  id: number
  account_id: number
  state: 'receiving' | 'processing' | 'ready' | 'failed' | 'removed'
  sha256: string | null
  error: string | null
}

export async function avatarOf(data: Data, accountId: number): Promise<Avatar> {
  const rows = await data.read(
    (sql) => sql<UploadRow & { state: Avatar['state'] }>`
      select id, account_id, state, sha256, error from avatars.upload
      where account_id = ${accountId} and state in ('processing', 'ready', 'failed') order by id desc`,
  )
  const ready = rows.find(({ state }) => state === 'ready')
  const [last] = rows
  return {
    state: last ? last.state : 'none',
    error: last?.error ?? null,
    image: ready ? avatarUrl(ready.id, ready.sha256!) : null,
  }
}

/** The row before the file: whatever happens then, somebody knows that there may be one. */
export async function receive(
  data: Data,
  files: Files,
  accountId: number,
  body: AsyncIterable<Uint8Array>,
): Promise<void> {
  const uploadId = await data.write(async (tx) => {
    const [row] = await tx<{ id: number }>`
      insert into avatars.upload (account_id) values (${accountId}) returning id`
    return row!.id
  })
  const types = ['image/png', 'image/jpeg', 'image/webp']
  const put = files.put(originalKey(uploadId), body, { sizeMax: bytesMax, types })
  const { sha256 } = await put.catch(async (error) => {
    // The client may be gone, and with it the right to write in its name: then the sweep does it.
    await data.write((tx) => tx`delete from avatars.upload where id = ${uploadId}`).catch(() => {})
    throw error
  })
  await data.write(async (tx) => {
    const received = await tx`
      update avatars.upload set state = 'processing', sha256 = ${sha256}
      where id = ${uploadId} and state = 'receiving' returning id`
    if (received.length === 0) throw refuse('HTTP_CONFLICT', 'avatar', 'was removed meanwhile')
    tx.enqueue(resize, { uploadId, accountId })
  })
}

/** May be killed anywhere and run again: files are written over, and their state changes with the end of the job. */
export async function makeSizes(
  data: Data,
  files: Files,
  { uploadId, accountId }: OfUpload,
  run: JobRun<Tx>,
): Promise<void> {
  const upload = await uploadOf(data, uploadId)
  if (upload?.state !== 'processing') return
  try {
    const { body } = await files.get(originalKey(uploadId))
    const squares = await squaresOf(Buffer.concat(await body.toArray()))
    for (const [size, content] of squares) {
      await files.put(sizeKey(uploadId, size), content, { metadata: { original: upload.sha256! } })
    }
  } catch (error) {
    const given = error instanceof BadPicture ? error.message : 'it went wrong here; try again'
    if (!(error instanceof BadPicture) && run.attempt < attempts) throw error
    await run.complete((tx) => fail(tx, { uploadId, accountId }, given))
    return
  }
  await run.complete((tx) => show(tx, upload))
}

async function uploadOf(data: Data, uploadId: number): Promise<UploadRow | undefined> {
  const [row] = await data.read(
    (sql) => sql<UploadRow>`select id, account_id, state, sha256, error from avatars.upload where id = ${uploadId}`,
  )
  return row
}

async function fail(tx: Tx, { uploadId, accountId }: OfUpload, error: string): Promise<void> {
  await tx`update avatars.upload set state = 'failed', error = ${error} where id = ${uploadId} and state = 'processing'`
  tx.enqueue(tidy, { uploadId, accountId })
}

/** The new one is the avatar; all before it go. */
async function show(tx: Tx, { id: uploadId, account_id: accountId, sha256 }: UploadRow): Promise<void> {
  await lock(tx, accountId)
  const [newer] = await tx`
    select from avatars.upload where account_id = ${accountId} and id > ${uploadId} and state = 'ready'`
  const state = newer ? 'removed' : 'ready'
  const [shown] = await tx`
    update avatars.upload set state = ${state} where id = ${uploadId} and state = 'processing' returning id`
  if (shown) tx.enqueue(tidy, { uploadId, accountId })
  if (!shown || newer) return
  const replaces = await removeAll(tx, accountId, uploadId)
  const event = { accountId, image: avatarUrl(uploadId, sha256!), replaces }
  tx.publish(AvatarChanged, event, { key: accountKey(accountId) })
}

/** The uploads of an account before `before`, but those that are still coming. Gives the avatar that was among them. */
async function removeAll(tx: Tx, accountId: number, before: number): Promise<string | null> {
  const old = await tx<UploadRow & { was: UploadRow['state'] }>`
    update avatars.upload set state = 'removed'
    from (
      select id, state as was from avatars.upload
      where account_id = ${accountId} and id < ${before} and state in ('processing', 'ready', 'failed') for update
    ) old
    where upload.id = old.id returning upload.id, old.was, upload.sha256`
  for (const { id: uploadId } of old) tx.enqueue(tidy, { uploadId, accountId })
  const shown = old.find(({ was }) => was === 'ready')
  return shown ? avatarUrl(shown.id, shown.sha256!) : null
}

/** Two changes of one account come one after the other. */
async function lock(tx: SqlTag, accountId: number): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`avatars:${accountId}`}, 0))`
}

export async function removeAvatar(data: Data, accountId: number): Promise<void> {
  await data.write(async (tx) => {
    await lock(tx, accountId)
    const replaces = await removeAll(tx, accountId, Number.MAX_SAFE_INTEGER)
    if (replaces === null) return
    tx.publish(AvatarChanged, { accountId, image: null, replaces }, { key: accountKey(accountId) })
  })
}

/** The files of an upload become what its state says. */
export async function tidyUp(data: Data, files: Files, { uploadId }: OfUpload, run: JobRun<Tx>): Promise<void> {
  const upload = await uploadOf(data, uploadId)
  if (upload?.state === 'processing') return // it is made of the original; that ends with another of these
  await files.delete(originalKey(uploadId))
  if (upload?.state === 'ready') return
  for (const size of sizes) await files.delete(sizeKey(uploadId, size))
  await run.complete((tx) => tx`delete from avatars.upload where id = ${uploadId} and state = 'removed'`)
}

/** What processes left that were killed, or that never came to it. */
export async function sweepUploads(data: Data): Promise<void> {
  for (;;) {
    const swept = await data.write(async (tx) => {
      const left = await tx<UploadRow>`
        update avatars.upload set state = case state when 'receiving' then 'removed' else 'failed' end,
          error = case state when 'receiving' then null else 'it went wrong here; try again' end
        where id in (
          select id from avatars.upload
          where state in ('receiving', 'processing') and created_at < now() - ${abandonedAfter}::interval
          limit ${sweptAtOnce} for update skip locked
        ) returning id, account_id`
      for (const { id: uploadId, account_id: accountId } of left) tx.enqueue(tidy, { uploadId, accountId })
      return left.length
    })
    if (swept < sweptAtOnce) return
  }
}
