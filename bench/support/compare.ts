import { processCpuMs, treeCpuMs } from './cpu.ts'
import { type LoadRequest, sendRequests } from './load.ts'
import type { Contender } from './processes.ts'
import { progress, type Spread, spread } from './report.ts'

export interface Compared {
  /** CPU ms per request: the app and its database together, and the app alone. */
  first: Spread
  second: Spread
  firstApp: Spread
  secondApp: Spread
  /** Second to first, round by round. */
  ratio: Spread
}

export interface Side {
  contender: Contender
  requests: readonly LoadRequest[]
}

const connections = 16

/**
 * CPU per request of two contenders, measured in turn (A B, B A, A B …) so that what else happens on the machine hits
 * both. Closed loop: it is the cost that is asked for here, not the latency.
 */
export async function compare(
  what: string,
  [first, second]: readonly [Side, Side],
  rounds: number,
  count: number,
): Promise<Compared> {
  const costs: [Cost[], Cost[]] = [[], []]
  for (const side of [first, second]) await cost(side, count)
  for (let round = 0; round < rounds; round += 1) {
    const order = round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)
    for (const at of order) costs[at].push(await cost(at === 0 ? first : second, count))
    progress(
      `  ${what}, round ${round + 1} of ${rounds}: ${costs.map((all) => all[round]!.all.toFixed(3)).join(' and ')} ms`,
    )
  }
  return {
    first: spread(costs[0].map(({ all }) => all)),
    second: spread(costs[1].map(({ all }) => all)),
    firstApp: spread(costs[0].map(({ app }) => app)),
    secondApp: spread(costs[1].map(({ app }) => app)),
    ratio: spread(costs[1].map(({ all }, round) => all / costs[0][round]!.all)),
  }
}

interface Cost {
  all: number
  app: number
}

async function cost({ contender, requests }: Side, count: number): Promise<Cost> {
  const { name, url, pid, databasePid } = contender
  const before = [processCpuMs(pid), treeCpuMs(databasePid)] as const
  const done = await sendRequests({ url, requests, count, connections })
  const [app, database] = [processCpuMs(pid) - before[0], treeCpuMs(databasePid) - before[1]]
  if (done.failures > 0) throw new Error(`${name}: ${done.failures} of ${count} requests failed`)
  return { all: (app + database) / count, app: app / count }
}
