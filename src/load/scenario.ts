import { RungError } from '../kernel/errors.ts'
import { type Phase, secondsOf } from './arrivals.ts'
import type { Visitor } from './visitor.ts'

/** Who comes, how often, and what they do. */
export interface Scenario {
  /** `http://127.0.0.1:3000`. Another host than this machine must be in `hosts`. */
  url: string
  hosts?: readonly string[]
  /** Open model: journeys begin at these rates, whatever the answers are. Or `closed`. */
  phases?: readonly Phase[]
  /** Closed model: so many visitors, each of whom begins the next journey after the last. It measures cost, not waiting. */
  closed?: { visitors: number; journeys: number }
  journeys: readonly Journey[]
  /** Of journeys, in the open model. `even` keeps the same distance; `random` is what independent people do. Default `random`. */
  arrivals?: 'even' | 'random'
  /** Repeats the same arrivals and choices. Default 1. */
  seed?: number
  /** Time limit of a request. Default 10,000 ms. */
  timeoutMs?: number
  /** For each thread. Default 1,000. */
  connectionsMax?: number
  /** Journeys that begin later than this are late. If more than one in a hundred is, nothing is reported. Default 10 ms. */
  lateMsMax?: number
}

export interface Journey {
  name: string
  /** How often it is chosen, beside the others'. Default 1. */
  weight?: number
  run(visitor: Visitor): Promise<unknown>
}

/** No load runs for longer. */
const secondsMax = 3_600

const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** @throws LOAD_INVALID */
export function checkScenario({ url, hosts = [], phases, closed, journeys }: Scenario): URL {
  const invalid = (message: string) => new RungError('LOAD_INVALID', message)
  const target = URL.canParse(url) ? new URL(url) : undefined
  if (target?.protocol !== 'http:')
    throw invalid(`"${url}" is not the address of a server. Write it as http://127.0.0.1:3000.`)
  if (!loopback.test(target.hostname) && !hosts.includes(target.hostname))
    throw invalid(`${target.hostname} is another machine. Name it in "hosts" if it may get this load.`)
  if ((phases === undefined) === (closed === undefined)) throw invalid('Give a scenario either "phases" or "closed".')
  for (const { seconds, rate, to = rate } of phases ?? [])
    if (!(seconds > 0 && rate >= 0 && to >= 0 && rate + to > 0))
      throw invalid('A phase needs more than 0 seconds, and rates that are not negative.')
  if (secondsOf(phases ?? []) > secondsMax)
    throw invalid(`The phases take longer than ${secondsMax} seconds. Make them shorter.`)
  if (journeys.length === 0 || journeys.some(({ weight = 1 }) => !(weight > 0)))
    throw invalid('A scenario needs journeys, each with a weight of more than 0.')
  return target
}
