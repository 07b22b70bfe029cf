import type { HistoryOptions, Recorder } from '../../src/history.ts'
import type { TestPostgres } from '../support/postgres.ts'

/** Uses a part of the product as several clients and processes do, and records what they did and saw. */
export interface Workload {
  /** The checkers that must find nothing on the sound build, and something to check. */
  promises: readonly string[]
  options?: HistoryOptions
  open(postgres: TestPostgres): Promise<OpenWorkload>
}

export interface OpenWorkload {
  /** Records one history. The seed decides who does what; how processes take turns stays chance. */
  run(seed: number, recorder: Recorder): Promise<void>
  close(): Promise<void>
}

export const workloads = {
  cache: () => import('./workloads/cache.ts'),
  ledger: () => import('./workloads/ledger.ts'),
  failover: () => import('./workloads/failover.ts'),
  promotion: () => import('./workloads/promotion.ts'),
  queue: () => import('./workloads/queue.ts'),
  requests: () => import('./workloads/requests.ts'),
  replicas: () => import('./workloads/replicas.ts'),
  web: () => import('./workloads/web.ts'),
} satisfies Record<string, () => Promise<{ default: Workload }>>

export type WorkloadName = keyof typeof workloads
