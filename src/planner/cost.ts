import type { Topology } from '../topology/topology.ts'
import { cheapest, type Item, items, type Price, type PriceList, priceOf, type Size } from './prices.ts'
import { dollars, percent } from './words.ts'

/** Dollars a month. */
export interface Span {
  low: number
  high: number
}

/** What one buys for a deployment. */
export interface Purchase {
  item: Item
  /** What it is for: `web`, `database`, `files` … */
  part: string
  count: number
  size?: Size
}

export interface CostLine extends Purchase, Span {
  price: Pick<Price, 'name' | 'source' | 'date'>
}

export interface Cost extends Span {
  lines: readonly CostLine[]
}

/** What no topology says. */
export interface Quantities {
  /** Of each server; without it 4 cores with 8 GB where there is one, otherwise with 16 GB. */
  server?: Size
  /** Of the primary and its replicas, where they have servers of their own; without it the same. */
  databaseServer?: Size
  /** Engines are bought as services, also where Rung runs them itself. */
  managed?: boolean
  storageGb: number
  egressGb: number
}

export const sizes = { alone: { cores: 4, memoryGb: 8 }, spread: { cores: 4, memoryGb: 16 } } as const
/** One may fail. */
const webServersMin = 2

/**
 * Returns what one buys for a topology. Without a balancer all that Rung runs shares one server. With one, processes that answer have servers of their own,
 * at least two, and so have workers and each server of the database; a process uses one core, and what shares the servers with it (nginx, HAProxy, the
 * pooler) has the cores that are left; Redis shares those of the workers. What runs elsewhere already is bought as a service. Pure.
 */
export function purchasesOf(
  topology: Topology,
  { server, databaseServer, managed = false, storageGb, egressGb }: Quantities,
): Purchase[] {
  const { data, cache, balancer, processes, cdn } = topology
  const isSpread = balancer.engine !== 'none'
  const size = server ?? sizes[isSpread ? 'spread' : 'alone']
  const serversFor = (count: number) => Math.ceil(count / size.cores)
  const isDatabaseBought = managed || data.engine === 'external'
  const web = processes.both + processes.web
  const own: Purchase[] = isSpread
    ? [
        { item: 'server', part: 'web', count: Math.max(webServersMin, serversFor(web)), size },
        { item: 'balancer', part: 'balancer', count: 1 },
        { item: 'worker', part: 'worker', count: serversFor(processes.worker), size },
        ...(isDatabaseBought
          ? []
          : [
              { item: 'server', part: 'database', count: 1, size: databaseServer ?? size } as const,
              { item: 'server', part: 'replica', count: data.replicas, size: databaseServer ?? size } as const,
            ]),
      ]
    : [{ item: 'server', part: 'app', count: serversFor(web + processes.worker), size }]
  const all: Purchase[] = [
    ...own,
    ...(isDatabaseBought
      ? [
          { item: 'database', part: 'database', count: 1 } as const,
          { item: 'replica', part: 'replica', count: data.replicas } as const,
        ]
      : []),
    {
      item: 'redis',
      part: 'redis',
      count: cache.engine === 'external' || (managed && cache.engine !== 'memory') ? cache.nodes : 0,
    },
    { item: 'cdn', part: 'cdn', count: cdn ? 1 : 0 },
    { item: 'storage', part: 'files and backups', count: storageGb },
    { item: 'egress', part: 'traffic', count: egressGb },
  ]
  return all.filter(({ count }) => count > 0)
}

/**
 * Prices what one buys. Pure.
 * @throws PRICE_MISSING
 */
export function costOf(purchases: readonly Purchase[], list: PriceList): Cost {
  const lines = purchases.map((purchase): CostLine => {
    const { low, high, source, date, name } = priceOf(list, purchase.item, purchase.size)
    const price = { source, date, ...(name !== undefined && { name }) }
    return { ...purchase, low: low * purchase.count, high: high * purchase.count, price }
  })
  return { ...sum(lines), lines }
}

const sum = (spans: readonly Span[]): Span => ({
  low: spans.reduce((all, { low }) => all + low, 0),
  high: spans.reduce((all, { high }) => all + high, 0),
})

export const middleOf = ({ low, high }: Span) => (low + high) / 2

/** What is reported for each rung, in dollars a month. The last one cannot be derived: there is no topology for it here. */
export const bands: readonly (Span & { rung: string; users: number })[] = [
  { rung: '1k', users: 1_000, low: 100, high: 200 },
  { rung: '10k', users: 10_000, low: 300, high: 600 },
  { rung: '100k', users: 100_000, low: 1_000, high: 2_000 },
  { rung: '500k', users: 500_000, low: 5_000, high: 15_000 },
  { rung: '1m', users: 1_000_000, low: 20_000, high: 80_000 },
]
/** For 10,000 monthly users, before and after the changes that teams report. */
export const reportedPer10k = { before: 412, after: 97 }

/** Returns the cost for 10,000 monthly users. */
export const per10k = ({ low, high }: Span, users: number): Span => ({
  low: (10_000 * low) / users,
  high: (10_000 * high) / users,
})

/** Says where a derived cost differs from the reported band, and why. @param bought the same with engines bought as services, where that has a price */
export function againstBand(cost: Cost, rung: string, bought: Cost | undefined): string {
  const band = bands.find((one) => one.rung === rung)!
  const words = `${spanOf(band)} are reported`
  if (cost.low > band.high) return `${words}; this is more: ${largest(cost)}.`
  if (cost.high >= band.low) return `${words}; this agrees.`
  const servers = cost.lines.filter(({ item }) => item === 'server' || item === 'worker')
  const count = servers.reduce((all, line) => all + line.count, 0)
  const own = `all that Rung runs is on ${count} ${count === 1 ? 'server' : 'servers'}, and engines are not bought as services`
  if (!bought || bought.high <= cost.high) return `${words}; this is less: ${largest(cost)}.`
  const agrees = bought.high >= band.low ? ', which agrees' : ', which is still less: the reported sizes must be larger'
  return `${words}; this is less: ${own}. Bought, it would be ${spanOf(bought)}${agrees}.`
}

function largest({ lines, low, high }: Cost): string {
  const most = lines.toSorted((a, b) => middleOf(b) - middleOf(a))[0]
  if (!most) return 'nothing is bought'
  return `${percent(middleOf(most) / middleOf({ low, high }))} of it is for ${most.part} (${most.count} × ${items[most.item]})`
}

/** `$60–80`, or only `$66`. */
export function spanOf({ low, high }: Span): string {
  const [from, to] = [dollars(low), dollars(high)]
  return from === to ? from : `${from}–${to.slice(1)}`
}

/** Work of one kind, in any unit that all have in common. */
export interface Work {
  /** `GET /articles`, or `job export`. */
  name: string
  module: string
  amount: number
}

export interface Share extends Span {
  name: string
  share: number
}

/** Returns the cost of what computes: servers, database, Redis, balancer; neither storage nor traffic. Pure. */
export function computingOf({ lines }: Cost): Span {
  return sum(lines.filter(({ item }) => !['storage', 'egress', 'cdn'].includes(item)))
}

/** Divides what computes among what it did. Storage and traffic are nobody's. Pure. */
export function sharesOf(cost: Cost, work: readonly Work[], by: 'name' | 'module'): Share[] {
  const computing = computingOf(cost)
  const all = work.reduce((total, { amount }) => total + amount, 0)
  if (all === 0) return []
  const amounts = new Map<string, number>()
  for (const one of work) amounts.set(one[by], (amounts.get(one[by]) ?? 0) + one.amount)
  return [...amounts]
    .map(([name, amount]) => {
      const share = amount / all
      return { name, share, low: share * computing.low, high: share * computing.high }
    })
    .sort((a, b) => b.share - a.share)
}

/** What the record says of a week, for suggestions. */
export interface Use {
  /** Cores in use in the busiest hour, all processes and engines; and on average. */
  coresMost: number
  coresMean: number
  /** The sum of what each used at most. */
  memoryBytesMost: number
  /** Requests in the busiest hour, and in an average one. */
  hourMost: number
  hourMean: number
  /** Of the database and its replicas, in the busiest hour. */
  databaseCoresMost: number
  hours: number
}

export interface Suggestion {
  what: string
  why: string
  saving: Span
  risk: string
}

/** Above it a further machine is started: in the busiest hour no more of the cores should be in use. */
const busyShare = 0.6
/** What is reported for spot servers: users save 50 to 70 %. Source: https://dev.to/alonshrestha/aws-spot-instances-maximize-savings-minimize-interruptions-53o8 */
const spot = { low: 0.5, high: 0.7 }
/** Use is called spiky from here on: servers for the busiest hour are idle for most of the others. */
const spiky = 5
/** Cloudflare containers: dollars for a second of a core and of a GB. Source: https://developers.cloudflare.com/workers/platform/pricing/, 2026-11-30 */
const serverless = { base: 5, coreSecond: 0.000_02, gbSecond: 0.000_002_5 }
const monthSeconds = 30 * 86_400

/** Returns what would cost less, the largest saving first. Pure. @param cost of what runs now */
export function suggestionsFor(
  cost: Cost,
  list: PriceList,
  { use, topology, grown }: { use: Use | undefined; topology: Topology; grown: Cost | undefined },
): Suggestion[] {
  const found = [
    spotForWorkers(cost),
    ...(use
      ? [rightSize(cost, list, use, topology), cacheForReplica(cost, use, topology), serverlessFor(cost, use)]
      : []),
    ...(grown ? [largerFirst(cost, list, grown)] : []),
  ]
  return found
    .filter((one) => one !== undefined)
    .filter(({ saving }) => middleOf(saving) > 0)
    .sort((a, b) => middleOf(b.saving) - middleOf(a.saving))
}

function spotForWorkers({ lines }: Cost): Suggestion | undefined {
  const workers = lines.find(({ part }) => part === 'worker')
  if (!workers) return undefined
  return {
    what: 'Run the workers on spot servers.',
    why: 'Spot servers are reported to save 50 to 70 %, and a job that its worker loses is run again.',
    saving: { low: spot.low * workers.low, high: spot.high * workers.high },
    risk: 'A spot server may be taken away with two minutes’ notice: jobs wait until another one is there, and jobs longer than that start again.',
  }
}

function rightSize(cost: Cost, list: PriceList, use: Use, topology: Topology): Suggestion | undefined {
  const line = cost.lines.find(({ part }) => part === 'app')
  if (!line?.size || topology.balancer.engine !== 'none') return undefined
  const needed = {
    cores: Math.max(1, Math.ceil(use.coresMost / busyShare)),
    memoryGb: Math.max(1, Math.ceil(use.memoryBytesMost / busyShare / 1024 ** 3)),
  }
  const smaller = cheapest(list.prices, 'server', needed)
  if (!smaller?.cores || (smaller.cores >= line.size.cores && smaller.memoryGb! >= line.size.memoryGb)) return undefined
  return {
    what: `Take a server of ${sizeInWords(smaller)}.`,
    why: `In the busiest of ${use.hours} hours ${use.coresMost.toFixed(2)} cores and ${(use.memoryBytesMost / 1024 ** 3).toFixed(1)} GB were in use; at most ${percent(busyShare)} should be.`,
    saving: { low: line.low - smaller.high, high: line.high - smaller.low },
    risk: 'A busier hour than those recorded finds less reserve; resizing is a restart.',
  }
}

function sizeInWords({ cores, memoryGb, name }: Price): string {
  return `${cores} ${cores === 1 ? 'core' : 'cores'} and ${memoryGb} GB${name === undefined ? '' : ` (${name})`}`
}

function cacheForReplica(cost: Cost, use: Use, topology: Topology): Suggestion | undefined {
  const replicas = cost.lines.find(({ part }) => part === 'replica')
  const has = cost.lines.find(({ part }) => part === 'database')?.size?.cores ?? sizes.spread.cores
  if (!replicas || topology.data.replicas === 0 || use.databaseCoresMost > busyShare * has) return undefined
  return {
    what: `Do without ${replicas.count === 1 ? 'the replica' : 'the replicas'}; cache what is read most instead.`,
    why: `The database and its replicas together used ${use.databaseCoresMost.toFixed(2)} cores in the busiest hour, which one server of ${has} cores carries at ${percent(busyShare)}.`,
    saving: { low: replicas.low, high: replicas.high },
    risk: 'Without a replica no server takes over when the primary is lost; keep one if that must not wait for a restore.',
  }
}

function serverlessFor(cost: Cost, use: Use): Suggestion | undefined {
  const ratio = use.hourMost / use.hourMean
  const lines = cost.lines.filter(({ part }) => part === 'app' || part === 'web')
  if (!(ratio >= spiky) || lines.length === 0) return undefined
  const own = sum(lines)
  const gb = use.memoryBytesMost / 1024 ** 3
  const bill = serverless.base + monthSeconds * (use.coresMean * serverless.coreSecond + gb * serverless.gbSecond)
  return {
    what: 'Run what answers requests where one pays by use.',
    why: `The busiest hour has ${ratio.toFixed(1)} times the requests of an average one, so servers sized for it are mostly idle; by use it would be about ${dollars(bill)}.`,
    saving: { low: own.low - bill, high: own.high - bill },
    risk: 'Rung does not run there by itself; the first request after a pause waits for a start, and the database must be elsewhere.',
  }
}

/** One larger machine has no balancer and no second copy of anything. */
function largerFirst(cost: Cost, list: PriceList, grown: Cost): Suggestion | undefined {
  const line = cost.lines.find(({ part }) => part === 'app')
  if (!line?.size) return undefined
  const larger = cheapest(list.prices, 'server', { cores: 2 * line.size.cores, memoryGb: 2 * line.size.memoryGb })
  if (!larger) return undefined
  const rest = sum(cost.lines.filter((one) => one !== line))
  return {
    what: `Before the next rung take a server of ${sizeInWords(larger)}.`,
    why: 'One larger machine needs no balancer, no pooler and no second copy of the app.',
    saving: { low: grown.low - larger.high - rest.high, high: grown.high - larger.low - rest.low },
    risk: 'It fails as a whole, it needs a restart, and the app at 1k uses one core whatever the machine has.',
  }
}
