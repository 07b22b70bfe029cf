import { chmod, readdir, rm } from 'node:fs/promises'
import { createServer, request, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { isRunning } from '../engines/process/is-running.ts'
import { makeSocketDir } from '../engines/process/server-process.ts'
import { dirFor } from '../fleet/placement.ts'
import { appParts } from '../fleet/status.ts'
import { RungError } from '../kernel/errors.ts'
import { type CpuProfile, takeProfile } from '../observe/profile/take.ts'
import type { TracesAnswer, TracesQuery } from '../observe/traces/list.ts'

/** Longer ones are hard to read, and cost the process memory. */
export const profileMsMax = 60_000

/** A process that needs longer to answer hangs, or is busy beyond use. */
const answerMs = 2_000
/** A profile is a few MB, which are written by the thread that it is of. */
const profileAnswerMs = 5_000

const longestName = 'process-4194304.sock'
const folderOf = (dataDir: string) => dirFor({ dataDir, tmpDir: tmpdir() }, 'doors', longestName)
const socketOf = (dataDir: string, pid: number) => path.join(folderOf(dataDir), `process-${pid}.sock`)

/** What one process answers. */
export interface DoorAnswers {
  traces(query: TracesQuery): TracesAnswer
}

/**
 * Lets commands of the same user ask this process for a profile and for its traces: by a Unix socket in a private folder, since an inspector's
 * port would let everybody on this machine run code.
 * @returns a function that closes it
 */
export async function openProcessDoor(dataDir: string, { traces }: DoorAnswers): Promise<() => Promise<void>> {
  const socket = socketOf(dataDir, process.pid)
  const ending = new AbortController()
  let isTaken = false
  const profile = (ms: number, response: ServerResponse) => {
    if (!(ms > 0 && ms <= profileMsMax)) return answer(response, 400, {})
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
  }
  const server = createServer(({ url, method }, response) => {
    const { pathname = '', searchParams } = URL.parse(url!, 'http://door') ?? {}
    if (method === 'POST' && pathname === '/profile') return profile(Number(searchParams?.get('ms')), response)
    if (method !== 'GET' || pathname !== '/traces') return answer(response, 400, {})
    try {
      return answer(response, 200, traces(JSON.parse(searchParams!.get('query')!)))
    } catch {
      return answer(response, 400, {}) // another version may ask for something else
    }
  })
  server.maxConnections = 4
  const folder = folderOf(dataDir)
  makeSocketDir(folder)
  for (const name of await readdir(folder)) {
    const [, pid] = /^process-(\d+)\.sock$/.exec(name) ?? []
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
  const { status, body } = await ask(dataDir, pid, 'POST', `/profile?ms=${ms}`, ms + profileAnswerMs).catch((cause) => {
    throw unavailable(
      'The process did not answer: it hangs, has ended, or runs an older version of Rung. See: rung ps',
      cause,
    )
  })
  if (status === 409) throw unavailable('Another profile is being taken of this process. Wait until it is complete.')
  if (status !== 200) throw unavailable('The process could not take a profile. Its log may say why.')
  return JSON.parse(body) as CpuProfile
}

/** Asks a process for its traces. Rejects if it does not answer: it hangs, has ended, or runs an older version. */
export async function askForTraces<Found>(
  dataDir: string,
  pid: number,
  query: TracesQuery,
): Promise<TracesAnswer<Found>> {
  const where = `/traces?query=${encodeURIComponent(JSON.stringify(query))}`
  const { status, body } = await ask(dataDir, pid, 'GET', where, answerMs)
  if (status !== 200) throw new Error(`The process ${pid} answered ${status}`)
  return JSON.parse(body) as TracesAnswer<Found>
}

async function ask(dataDir: string, pid: number, method: string, where: string, withinMs: number) {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | undefined; body: string }>()
  const signal = AbortSignal.timeout(withinMs)
  request({ socketPath: socketOf(dataDir, pid), path: where, method, signal }, (response) => {
    text(response).then((body) => resolve({ status: response.statusCode, body }), reject)
  })
    .once('error', reject)
    .end()
  return promise
}

/**
 * Returns the processes of the app that run on this data directory.
 * @throws FLEET_NOT_RUNNING
 */
export async function appProcesses(dataDir: string): Promise<{ name: string; pid: number }[]> {
  const parts = await appParts(dataDir)
  const found = parts.flatMap(({ name, pid }) => (pid === undefined ? [] : [{ name, pid }]))
  if (found.length === 0) throw new RungError('FLEET_NOT_RUNNING', 'No process of the app runs here. See: rung ps')
  return found
}
