import { readFile, stat } from 'node:fs/promises'
import { startPageCache } from '../engines/nginx/server.ts'
import { startEmbedded } from '../engines/postgres/embedded.ts'
import { logFileOf, startServer } from '../engines/process/server-process.ts'
import { startRedis } from '../engines/redis/server.ts'
import { type ErrorCode, errorCodes, RungError } from '../kernel/errors.ts'
import type { AppPart, ArchiverPart, Part, PostgresPart } from './plan.ts'
import type { Started, SupervisorOptions } from './supervisor.ts'

/** How each kind of part is started. All of them end with this process, however it ends. */
export const startPart: SupervisorOptions['start'] = async (part, over, mend) => {
  switch (part.kind) {
    case 'postgres':
      return startPostgres(part, mend)
    case 'redis': {
      const { dir, socketPath, password } = part
      const redis = await startRedis({ dir, listen: { socketPath }, password })
      return { ...redis, answers: redis.isHealthy }
    }
    case 'edge': {
      const { dir, listen, adminPort, secret, tagsShown, upstreams } = part
      const edge = await startPageCache({ dir, listen, adminPort, secret, tagsShown, upstreams })
      return { ...edge, answers: edge.isHealthy }
    }
    case 'app':
    case 'archiver':
      return startCommand(part, over)
  }
}

export function logOf(part: Part): string {
  return part.kind === 'postgres' ? `${part.root}/postgres.log` : logFileOf(part.dir)
}

/** It starts itself again when it dies. */
async function startPostgres(
  { root, connectionsMax }: PostgresPart,
  mend: (trouble: string | undefined, pid?: number) => void,
): Promise<Started> {
  const server = await startEmbedded({
    root,
    connectionsMax,
    endsWithOwner: true,
    onEvent(event, detail) {
      if (event === 'lost') mend(detail)
      if (event === 'recovered') mend(undefined, server.pid())
    },
  })
  const { promise: exited, resolve } = Promise.withResolvers<string>()
  return {
    pid: server.pid(),
    exited,
    answers: server.answers,
    kill: server.kill,
    stop: () => server.stop().finally(() => resolve('Postgres was stopped')),
  }
}

/** Migrations may take long; whoever waits can see that they do. */
const appStartTimeoutMs = 3_600_000
const healthTimeoutMs = 1_000

async function startCommand(part: AppPart | ArchiverPart, over: AbortSignal): Promise<Started> {
  const { name, dir, program, args, cwd, env, address } = part
  const logStart = await stat(logFileOf(dir)).then(
    ({ size }) => size,
    () => 0,
  )
  try {
    const server = await startServer({
      name,
      dir,
      program,
      args,
      cwd,
      env,
      launcher: { prefix: [] },
      address,
      over,
      startTimeoutMs: appStartTimeoutMs,
      stopTimeoutMs: part.stopTimeoutMs,
      isReady: () => isHealthy(part.healthUrl),
    })
    return { ...server, answers: (withinMs) => says(part.healthUrl, withinMs) }
  } catch (error) {
    throw (await ownWords(logFileOf(dir), logStart)) ?? error
  }
}

async function isHealthy(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(healthTimeoutMs) })
  await response.body?.cancel()
  return response.ok
}

/** Anything. Who turns a connection away, since it has enough of them, does not hang. */
async function says(url: string, withinMs: number): Promise<boolean> {
  const late = AbortSignal.timeout(withinMs)
  return fetch(url, { signal: late }).then(
    async ({ body }) => {
      await body?.cancel()
      return true
    },
    () => !late.aborted,
  )
}

/** What the process said last, in the form of the command line: `Title (CODE)`, then a sentence, then perhaps a place in the app. */
async function ownWords(file: string, start: number): Promise<RungError | undefined> {
  const said = (await readFile(file).catch(() => Buffer.alloc(0))).subarray(start).toString()
  const match = /^.* \(([A-Z_]+)\)\n([^\n]+)(?:\n\n([^\n]+:\d+:\d+))?\n?$/m.exec(said)
  if (!match || !Object.hasOwn(errorCodes, match[1]!)) return undefined
  const [, code, message, at] = match
  return new RungError(code as ErrorCode, message!, { facts: at === undefined ? {} : { at } })
}
