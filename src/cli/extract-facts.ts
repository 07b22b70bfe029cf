import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { App } from '../app/define-app.ts'
import { type AnyModule, placeOfModule } from '../app/define-module.ts'
import { type Frame, total } from '../observe/record/frame.ts'
import { distributed, quantile } from '../observe/record/groups.ts'
import type { Recorded } from '../observe/record/hours.ts'
import { doneIn } from '../observe/record/work.ts'
import type { Calls, ModuleFacts, Share } from '../planner/extraction.ts'
import { groupOf, isGroupQueue } from '../primitives/events/contract.ts'

/** Something that ties a module to others, so that nodes of its own would not set it free. */
export interface Tie {
  /** `reads`: its statements read tables of another module, or the other way round. */
  kind: 'reads'
  what: string
  /** `orders/module.ts:14` */
  at: string | undefined
}

/** Returns what ties modules to those that stay. @param cwd the folder of paths */
export function tiesOf({ modules }: App, leaving: readonly string[], cwd: string): Tie[] {
  return modules.flatMap((module) =>
    (module.reads ?? [])
      .filter((other) => leaving.includes(module.name) !== leaving.includes(other))
      .map((other) => ({
        kind: 'reads' as const,
        what: `"${module.name}" reads tables of "${other}", so both change together. Let "${other}" expose a call, and call it.`,
        at: placeOfReads(module, cwd),
      })),
  )
}

/** The line of `reads:` below the place where the module is described, or that place. */
function placeOfReads(module: AnyModule, cwd: string): string | undefined {
  const [, file, line] = /^(.+):(\d+):\d+$/.exec(placeOfModule(module) ?? '') ?? []
  if (file === undefined) return undefined
  const found = linesOf(file)
    .slice(Number(line) - 1)
    .findIndex((text) => /^\s*reads\s*:/.test(text))
  return `${path.relative(cwd, file)}:${found < 0 ? line : Number(line) + found}`
}

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n')
  } catch {
    return [] // the place of the module is told then
  }
}

/** Returns the modules that have answered requests or done work. Pure. */
export function modulesIn(recorded: Recorded | undefined): string[] {
  const frames = recorded?.frames ?? []
  const requests = doneIn(frames).flatMap(({ module }) => (/^\w/.test(module) ? [module] : []))
  return [...new Set([...requests, ...runsIn(frames).map(({ module }) => module)])].sort()
}

function runsIn(frames: readonly Frame[]): { module: string; count: number; seconds: number }[] {
  return distributed(frames, 'job_duration_seconds', ['queue']).map(({ labels: { queue = '' }, value }) => ({
    module: isGroupQueue(queue) ? groupOf(queue) : queue.split('.', 1)[0]!,
    count: total(value),
    seconds: value.sum,
  }))
}

/** Returns what the record knows of a module. Jobs belong to it by their names (`orders.send-receipt`), deliveries by their group. Pure. */
export function moduleFacts(module: string, recorded: Recorded | undefined): ModuleFacts {
  const { frames = [], hours = [] } = recorded ?? {}
  const done = doneIn(frames)
  const requests = done.filter((one) => one.module !== '(jobs)')
  const own = requests.filter((one) => one.module === module)
  const runs = runsIn(frames)
  const work = runs.filter((one) => one.module === module)
  const calls = distributed(frames, 'module_call_duration_seconds', ['from', 'to']).map(({ labels, value }) => ({
    ...{ from: labels.from!, to: labels.to!, count: total(value), seconds: value.sum },
  }))
  const [waits] = distributed(frames, 'db_pool_wait_seconds', [])
  const queues = hours.flatMap((hour) => hour.queues)
  return {
    module,
    hours: hours.reduce((sum, { coveredMs }) => sum + coveredMs, 0) / 3_600_000,
    requests: {
      ...shareOf(own, requests),
      p95Ms: Math.max(0, ...own.filter(({ count }) => count > 0).map(({ p95Ms }) => p95Ms)),
    },
    work: shareOf(work, runs),
    callers: calls.filter(({ to }) => to === module).map(({ from, ...one }): Calls => ({ ...one, module: from })),
    callees: calls.filter(({ from }) => from === module).map(({ to, ...one }): Calls => ({ ...one, module: to })),
    loopMost: Math.max(
      0,
      ...hours.flatMap(({ nodes }) => nodes.filter(({ role }) => role !== 'worker').map(({ loop }) => loop)),
    ),
    poolWaitMs95: waits ? 1_000 * (quantile(waits.value, 0.95) ?? 0) : 0,
    oldestJobSeconds: Math.max(0, ...queues.map(({ oldestSeconds }) => oldestSeconds)),
  }
}

interface Times {
  count: number
  seconds: number
}

function shareOf(own: readonly Times[], all: readonly Times[]): Share {
  const [mine, whole] = [sumOf(own), sumOf(all)]
  const others = { count: whole.count - mine.count, seconds: whole.seconds - mine.seconds }
  const isCompared = mine.count > 0 && others.count > 0 && others.seconds > 0
  return {
    count: mine.count,
    share: whole.seconds === 0 ? 0 : mine.seconds / whole.seconds,
    timesOthers: isCompared ? mine.seconds / mine.count / (others.seconds / others.count) : 0,
  }
}

function sumOf(list: readonly Times[]): Times {
  return list.reduce((sum, one) => ({ count: sum.count + one.count, seconds: sum.seconds + one.seconds }), {
    count: 0,
    seconds: 0,
  })
}
