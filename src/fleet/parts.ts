import { readFile, stat } from 'node:fs/promises'
import type { RunningPart } from '../engines/process/engine.ts'
import { startServer } from '../engines/process/server-process.ts'
import { type ErrorCode, errorCodes, RungError } from '../kernel/errors.ts'
import { requestTimeoutDefaultMs } from '../kernel/http-facts.ts'
import type { CommandPart } from './placement.ts'
import type { SupervisorOptions } from './supervisor.ts'

/**
 * How parts are started. All of them end with this process, however it ends. Processes of the app say in `/healthz` how long
 * a request may take, and how long they need to stop; engines in front of them are told.
 */
export function partStarter(): { start: SupervisorOptions['start']; slowestStopMs(): number } {
  const toldBy = new Map<string, Told>()
  const most = (what: keyof Told, otherwise: number) =>
    Math.max(...[...toldBy.values()].map((told) => told[what] ?? 0), 0) || otherwise
  return {
    async start(part, over, mend) {
      if (part.kind === 'engine')
        return part.start({ mend, requestTimeoutMs: most('requestTimeoutMs', requestTimeoutDefaultMs) })
      const { told, ...running } = await startCommand(part, over)
      toldBy.set(part.name, told)
      return running
    },
    slowestStopMs: () => most('stopTimeoutMs', defaultStopTimeoutMs),
  }
}

/** Migrations may take long; people who wait can see that they do. */
const startTimeoutMs = 3_600_000
const healthTimeoutMs = 1_000

/** What a process says of itself in `/healthz`. */
interface Told {
  requestTimeoutMs?: number
  /** It stops within this time. */
  stopTimeoutMs?: number
}

async function startCommand(part: CommandPart, over: AbortSignal): Promise<RunningPart & { told: Told }> {
  const { name, dir, program, args, cwd, env, address, log } = part
  const logStart = await stat(log).then(
    ({ size }) => size,
    () => 0,
  )
  let told: Told = {}
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
      startTimeoutMs,
      stopTimeoutMs: () => told.stopTimeoutMs ?? defaultStopTimeoutMs,
      async isReady() {
        const answer = await fetch(part.healthUrl, { signal: AbortSignal.timeout(healthTimeoutMs) })
        const said: unknown = await answer.json()
        if (answer.ok && typeof said === 'object' && said !== null) told = said
        return answer.ok
      },
    })
    return { ...server, answers: (withinMs) => says(part.healthUrl, withinMs), told }
  } catch (error) {
    throw (await ownWords(log, logStart)) ?? error
  }
}

/** Of a process that has not said how long it needs. */
const defaultStopTimeoutMs = 60_000

/** Any answer counts. A process that turns a connection away, since it has enough of them, does not hang. */
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
