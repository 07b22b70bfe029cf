import { cpuMs } from './cpu.ts'
import type { Load, LoadRequest } from './load.ts'
import type { Contender } from './processes.ts'
import { progress, type Spread, spread } from './report.ts'

export interface Compared {
  /** CPU ms per request. */
  first: Spread
  second: Spread
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
  load: Load,
  what: string,
  [first, second]: readonly [Side, Side],
  rounds: number,
  count: number,
): Promise<Compared> {
  const costs: [number[], number[]] = [[], []]
  for (const side of [first, second]) await cost(load, side, count)
  for (let round = 0; round < rounds; round += 1) {
    const order = round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)
    for (const at of order) costs[at].push(await cost(load, at === 0 ? first : second, count))
    progress(
      `  ${what}, round ${round + 1} of ${rounds}: ${costs.map((all) => all.at(-1)!.toFixed(3)).join(' and ')} ms`,
    )
  }
  const ratios = costs[1].map((value, round) => value / costs[0][round]!)
  return { first: spread(costs[0]), second: spread(costs[1]), ratio: spread(ratios) }
}

async function cost(load: Load, { contender, requests }: Side, count: number): Promise<number> {
  const before = cpuMs(contender.pids)
  const done = await load.run({ url: contender.url, requests, count, connections })
  const used = cpuMs(contender.pids) - before
  if (done.failures > 0) throw new Error(`${contender.name}: ${done.failures} of ${count} requests failed`)
  return used / done.requests
}
