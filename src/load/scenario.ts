import { RungError } from '../kernel/errors.ts'
import { type Phase, secondsOf } from './arrivals.ts'
import type { Visitor } from './visitor.ts'

/** Who comes, how often, and what they do. `Data` is what `setup` returns; threads get a copy of it. */
export interface Scenario<Data = unknown> {
  /** `http://127.0.0.1:3000`. Another host than this machine must be in `hosts`. Default, with `rung load`: the app that runs here. */
  url?: string
  hosts?: readonly string[]
  /** Open model: journeys begin at these rates, whatever the answers are. Or `closed`. */
  phases?: readonly Phase[]
  /** Closed model: so many visitors, each of whom begins the next journey after the last. It measures cost, not waiting. */
  closed?: { visitors: number; journeys: number }
  /** When each journey begins, in ms since the start and in order: a recorded trace. `visitor.number` is the place in it. Or `closed`. */
  trace?: readonly number[]
  /** Runs once before the load, and is not counted: signs users in, reads what journeys choose from. */
  setup?(visitor: Visitor): Promise<Data>
  journeys: readonly Journey<Data>[]
  /** Of journeys, in the open model. `even` keeps the same distance; `random` is what independent people do. Default `random`. */
  arrivals?: 'even' | 'random'
  /** Repeats the same arrivals and choices. Default 1. */
  seed?: number
  /** Time limit of a request. Default 10,000 ms. */
  timeoutMs?: number
  /** For each thread. Default 1,000. */
  connectionsMax?: number
  /** Journeys that begin later than this are late. If more than one is, and more than one in a hundred, nothing is reported. Default 10 ms. */
  lateMsMax?: number
}

export interface Journey<Data = unknown> {
  name: string
  /** How often it is chosen, beside the others'. Default 1. */
  weight?: number
  run(visitor: Visitor<Data>): Promise<unknown>
}

/**
 * Infers the type of `visitor.data` from what `setup` returns.
 * @example
 * export default defineScenario({
 *   phases: [{ seconds: 30, rate: 50 }],
 *   setup: async (visitor) => JSON.parse(String((await visitor.request('GET', '/items')).body)) as { id: number }[],
 *   journeys: [{ name: 'reader', run: (visitor) => visitor.request('GET', `/items/${visitor.pick(visitor.data).id}`, { route: 'GET /items/:id' }) }],
 * })
 */
export function defineScenario<Data>(scenario: Scenario<Data>): Scenario<Data> {
  return scenario
}

/** No load runs for longer. */
const secondsMax = 3_600

const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** @throws LOAD_INVALID */
export function checkScenario<Data>({ url = '', hosts = [], phases, closed, trace, journeys }: Scenario<Data>): URL {
  const invalid = (message: string) => new RungError('LOAD_INVALID', message)
  const target = URL.canParse(url) ? new URL(url) : undefined
  if (target?.protocol !== 'http:')
    throw invalid(`"${url}" is not the address of a server. Write it as http://127.0.0.1:3000.`)
  if (!loopback.test(target.hostname) && !hosts.includes(target.hostname))
    throw invalid(`${target.hostname} is another machine. Name it in "hosts" if it may get this load.`)
  if ([phases, closed, trace].filter((one) => one !== undefined).length !== 1)
    throw invalid('A scenario needs one of "phases", "closed" and "trace".')
  if (trace?.some((at, index) => !(at >= (trace[index - 1] ?? 0))))
    throw invalid('The times of a trace are in ms since its start, in order.')
  for (const { seconds, rate, to = rate } of phases ?? [])
    if (!(seconds > 0 && rate >= 0 && to >= 0 && rate + to > 0))
      throw invalid('A phase needs more than 0 seconds, and rates that are not negative.')
  if (secondsOf(phases ?? []) > secondsMax || (trace?.at(-1) ?? 0) > 1_000 * secondsMax)
    throw invalid(`The load takes longer than ${secondsMax} seconds. Make it shorter.`)
  if (journeys.length === 0 || journeys.some(({ weight = 1 }) => !(weight > 0)))
    throw invalid('A scenario needs journeys, each with a weight of more than 0.')
  return target
}
