import { readFile, stat } from 'node:fs/promises'
import type { CpuQuota } from '../engines/process/cpu-quota.ts'
import type { EngineEvents, Routing, RunningPart } from '../engines/process/engine.ts'
import { startServer } from '../engines/process/server-process.ts'
import { type ErrorCode, errorCodes, RungError } from '../kernel/errors.ts'
import { requestTimeoutDefaultMs } from '../kernel/http-facts.ts'
import type { Group } from '../topology/topology.ts'
import type { CommandPart } from './placement.ts'
import { routeRules } from './route-rules.ts'
import type { SupervisorOptions } from './supervisor.ts'

/**
 * Starts parts, which all end with this process, however it ends. Processes of the app report in `/healthz` how long a request may
 * take, how long they need to stop, and which proxies they trust; engines in front of them get that. `note` is told what a long start is doing; `mayReturn` is as
 * in `EngineEvents`; `groups` returns those of
 * the present plan; `quota` limits the CPU time of each process of the app.
 */
export function partStarter(
  note: (part: string, text: string) => void,
  mayReturn: EngineEvents['mayReturn'],
  groups: () => readonly Group[],
  quota?: CpuQuota,
): {
  start: SupervisorOptions['start']
  slowestStopMs(): number
  /** Which of these groups answers what, as their processes have told. */
  routingOf(groups: readonly Group[]): Routing
} {
  const reports = new Map<string, Health & { group?: string | undefined }>()
  /** The routes of the processes, as they have told them; those of groups that are no more are left out. */
  function routingOf(groups: readonly Group[]): Routing {
    const isPresent = (group: string | undefined) => group === undefined || groups.some(({ name }) => name === group)
    const routes = [...reports.values()].flatMap(({ group, routes = [] }) =>
      isPresent(group) ? routes.map((route) => ({ ...route, group })) : [],
    )
    return { groups: groups.filter(({ web }) => web > 0), rules: routeRules(routes) }
  }
  const longest = (what: 'requestTimeoutMs' | 'stopTimeoutMs', otherwise: number) =>
    Math.max(...[...reports.values()].map((health) => health[what] ?? 0), 0) || otherwise
  return {
    async start(part, over, report) {
      if (part.kind === 'engine') {
        const requestTimeoutMs = longest('requestTimeoutMs', requestTimeoutDefaultMs)
        const trustedProxies = [...new Set([...reports.values()].flatMap((health) => health.trustedProxies ?? []))]
        const noted = (text: string) => note(part.name, text)
        return part.start({
          ...{ report, over, note: noted, requestTimeoutMs, trustedProxies, mayReturn },
          routing: routingOf(groups()),
        })
      }
      const { health, ...running } = await startCommand(part, over, part.kind === 'app' ? quota : undefined)
      reports.set(part.name, { ...health, group: part.group })
      return running
    },
    routingOf,
    slowestStopMs: () => longest('stopTimeoutMs', defaultStopTimeoutMs),
  }
}

/** Migrations may take long. */
const startTimeoutMs = 3_600_000
const healthTimeoutMs = 1_000

/** What a process reports in `/healthz`, times in ms. */
interface Health {
  requestTimeoutMs?: number
  stopTimeoutMs?: number
  trustedProxies?: readonly string[]
  routes?: readonly { method: string; url: string }[]
}

async function startCommand(
  part: CommandPart,
  over: AbortSignal,
  quota: CpuQuota | undefined,
): Promise<RunningPart & { health: Health }> {
  const { name, dir, program, args, cwd, env, address, log, socketFd } = part
  const logStart = await stat(log).then(
    ({ size }) => size,
    () => 0,
  )
  let health: Health = {}
  try {
    const server = await startServer({
      name,
      dir,
      program,
      args,
      cwd,
      env,
      launcher: quota?.launcher(name) ?? { prefix: [] },
      address,
      socketFd,
      over,
      startTimeoutMs: part.startWithinMs ?? startTimeoutMs,
      stopTimeoutMs: () => health.stopTimeoutMs ?? defaultStopTimeoutMs,
      async isReady() {
        const answer = await fetch(part.healthUrl, { signal: AbortSignal.timeout(healthTimeoutMs) })
        const body: unknown = await answer.json()
        if (answer.ok && typeof body === 'object' && body !== null) health = body
        return answer.ok
      },
    })
    const exited = server.exited.finally(() => quota?.release(name))
    return { ...server, exited, answers: (withinMs) => answersAt(part.healthUrl, withinMs), health }
  } catch (error) {
    quota?.release(name)
    throw (await reportedError(log, logStart)) ?? error
  }
}

/** For a process that has not reported its time. */
const defaultStopTimeoutMs = 60_000

/** Any answer counts, even a refused connection: a process at its connection limit does not hang. */
async function answersAt(url: string, withinMs: number): Promise<boolean> {
  const late = AbortSignal.timeout(withinMs)
  return fetch(url, { signal: late }).then(
    async ({ body }) => {
      await body?.cancel()
      return true
    },
    () => !late.aborted,
  )
}

/** Returns the error that a command printed last: `Title (CODE)`, a sentence, and perhaps a place in the app. */
async function reportedError(file: string, start: number): Promise<RungError | undefined> {
  const output = (await readFile(file).catch(() => Buffer.alloc(0))).subarray(start).toString()
  const match = /^.* \(([A-Z_]+)\)\n([^\n]+)(?:\n\n([^\n]+:\d+:\d+))?\n?$/m.exec(output)
  if (!match || !Object.hasOwn(errorCodes, match[1]!)) return undefined
  const [, code, message, at] = match
  return new RungError(code as ErrorCode, message!, { facts: at === undefined ? {} : { at } })
}
