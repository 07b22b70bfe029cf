import { chmod, readdir, rm } from 'node:fs/promises'
import { createServer, request, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { isRunning } from '../engines/process/is-running.ts'
import { makeDir } from '../engines/process/server-process.ts'
import { dirFor } from '../fleet/placement.ts'
import { RungError } from '../kernel/errors.ts'
import { type CpuProfile, takeProfile } from '../observe/profile/take.ts'

/** Longer ones are hard to read, and cost the process memory. */
export const profileMsMax = 60_000

const longestName = 'profile-4194304.sock'
const folderOf = (dataDir: string) => dirFor({ dataDir, tmpDir: tmpdir() }, 'doors', longestName)
const socketOf = (dataDir: string, pid: number) => path.join(folderOf(dataDir), `profile-${pid}.sock`)

/**
 * Lets `rung profile` of the same user ask this process for a profile: by a Unix socket in a private folder, since an inspector's port would let
 * everybody on this machine run code.
 * @returns a function that closes it
 */
export async function openProfileDoor(dataDir: string): Promise<() => Promise<void>> {
  const socket = socketOf(dataDir, process.pid)
  const ending = new AbortController()
  let isTaken = false
  const server = createServer(({ url, method }, response) => {
    const ms = Number(/^\/\?ms=(\d+(?:\.\d+)?)$/.exec(url!)?.[1])
    if (method !== 'POST' || !(ms > 0 && ms <= profileMsMax)) return answer(response, 400, {})
    if (isTaken) return answer(response, 409, {})
    isTaken = true
    const over = new AbortController()
    response.once('close', () => over.abort()) // nobody waits for it any more
    takeProfile(ms, AbortSignal.any([over.signal, ending.signal]))
      .then((profile) => answer(response, 200, profile))
      .catch(() => answer(response, 500, {}))
      .finally(() => {
        isTaken = false
      })
  })
  server.maxConnections = 4
  const folder = folderOf(dataDir)
  makeDir(folder, { prefix: [] })
  await chmod(folder, 0o700) // fails if the folder is another user's
  for (const name of await readdir(folder)) {
    const [, pid] = /^profile-(\d+)\.sock$/.exec(name) ?? []
    if (pid !== undefined && !isRunning(Number(pid))) await rm(path.join(folder, name), { force: true }) // it was killed
  }
  await rm(socket, { force: true })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(socket, resolve))
  await chmod(socket, 0o600)
  server.unref()
  return async () => {
    ending.abort()
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeAllConnections()
    await closed
    await rm(socket, { force: true })
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(body))
}

/** @throws PROFILE_UNAVAILABLE */
export async function askForProfile(dataDir: string, pid: number, ms: number): Promise<CpuProfile> {
  const unavailable = (why: string, cause?: unknown) => new RungError('PROFILE_UNAVAILABLE', why, { cause })
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | undefined; body: string }>()
  request({ socketPath: socketOf(dataDir, pid), path: `/?ms=${ms}`, method: 'POST' }, (response) => {
    text(response).then((body) => resolve({ status: response.statusCode, body }), reject)
  })
    .once('error', reject)
    .end()
  const { status, body } = await promise.catch((cause) => {
    throw unavailable(
      'The process cannot be asked: it has ended, or runs an older version of Rung. See: rung ps',
      cause,
    )
  })
  if (status === 409) throw unavailable('Another profile is being taken of this process. Wait until it is complete.')
  if (status !== 200) throw unavailable('The process could not take a profile. Its log may say why.')
  return JSON.parse(body) as CpuProfile
}
