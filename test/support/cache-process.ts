import { fork } from 'node:child_process'
import path from 'node:path'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import type { Order, Report } from './cache-node.ts'

type Position = [string, string][]
type What = Order extends infer One ? (One extends Order ? Omit<One, 'n' | 'position'> : never) : never

/** What one session has seen, from one process to the next. */
export interface Carried {
  position: Position
}

export interface CacheProcess {
  readonly pid: number
  /** As a session; without one, as somebody who has seen nothing. */
  order<T>(what: What, who?: Carried): Promise<T>
  /** Until a load holds that was told to. */
  held(name: string): Promise<void>
  kill(): Promise<void>
}

/** A node of the cache in a process of its own. */
export async function startCacheNode(parts: {
  connection: ConnectionConfig
  url: string
  busUrl?: string
  bytesMax?: number
  deaf?: boolean
}): Promise<CacheProcess> {
  const child = fork(path.join(import.meta.dirname, 'cache-node.ts'), [JSON.stringify(parts)], {
    execArgv: ['--conditions=rung-source'],
  })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const waiting = new Map<number, { who: Carried | undefined; settle: PromiseWithResolvers<unknown> }>()
  const holds = new Map<string, PromiseWithResolvers<void>>()
  const holdOf = (name: string) => {
    const known = holds.get(name) ?? Promise.withResolvers<void>()
    holds.set(name, known)
    return known
  }
  await new Promise((resolve, reject) => {
    child.once('message', resolve)
    child.once('exit', (code) => reject(new Error(`a node of the cache ended at its start (${code})`)))
  })
  child.on('message', (report: Report) => {
    if ('held' in report) return holdOf(report.held).resolve()
    const { who, settle } = waiting.get(report.n)!
    waiting.delete(report.n)
    if (who) who.position = report.position
    if (report.error === undefined) settle.resolve(report.value)
    else settle.reject(new Error(report.error))
  })
  let count = 0
  return {
    pid: child.pid!,
    order<T>(what: What, who?: Carried) {
      count += 1
      const settle = Promise.withResolvers<unknown>()
      waiting.set(count, { who, settle })
      child.send({ ...what, n: count, position: who?.position ?? [] })
      return settle.promise as Promise<T>
    },
    held: (name) => holdOf(name).promise,
    async kill() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await gone
    },
  }
}
