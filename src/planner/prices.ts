import { RungError } from '../kernel/errors.ts'

/** What one pays for. `storage` and `egress` are priced by the GB. */
export const items = {
  server: 'a server',
  worker: 'a server for jobs',
  database: 'a managed Postgres',
  replica: 'a managed replica of Postgres',
  redis: 'a managed Redis',
  balancer: 'a load balancer',
  storage: 'a GB of object storage',
  egress: 'a GB that leaves the provider',
  cdn: 'a CDN',
} as const
export type Item = keyof typeof items

/** A published price, in US dollars a month. */
export interface Price {
  item: Item
  /** What the seller calls it. */
  name?: string
  /** A price that does not depend on a size has neither. */
  cores?: number
  memoryGb?: number
  low: number
  high: number
  /** The page on which it was read, and the day. */
  source: string
  date: string
}

export interface PriceList {
  name: string
  about: string
  prices: readonly Price[]
}

const sized = (item: Item, cores: number, memoryGb: number, low: number, high = low) => ({
  ...{ item, cores, memoryGb, low, high },
})
const flat = (item: Item, low: number, high = low) => ({ item, low, high })
const from = (source: string, date: string, ...prices: Omit<Price, 'source' | 'date'>[]): Price[] =>
  prices.map((price) => ({ ...price, source, date }))

const r2 = from('https://developers.cloudflare.com/r2/pricing/', '2026-11-30', {
  ...flat('storage', 0.015),
  name: 'Cloudflare R2',
})
const cloudflare = from('https://www.cloudflare.com/plans/', '2026-10-07', {
  ...flat('cdn', 0, 25),
  name: 'Cloudflare Free or Pro',
})

/** One US dollar was so many euros' worth: the reference rate of the European Central Bank on 2026-10-28. */
const dollarsPerEuro = 1.1133
const euros = (price: number) => Math.round(price * dollarsPerEuro * 100) / 100
const serversOfEurope = 'https://raw.githubusercontent.com/moveinfra/eu-cloud-prices/main/data/eu-cloud-prices.csv'

/**
 * Prices of no particular provider: spans that are reported for deployments of these sizes. A server of 16 GB is half of what two of them and their balancer cost,
 * without the balancer.
 */
const generic: PriceList = {
  name: 'generic',
  about: 'spans that are reported for such sizes, of no provider in particular',
  prices: [
    ...from(
      'reported spans, docs/guides/cost.md',
      '2026-11-30',
      sized('server', 4, 8, 60, 80),
      sized('server', 4, 16, 140, 240),
      flat('worker', 100, 200),
      flat('database', 20, 50),
      flat('replica', 50, 150),
      flat('redis', 20, 60),
      flat('cdn', 0, 20),
    ),
    ...from('https://docs.digitalocean.com/products/networking/load-balancers/', '2026-11-30', {
      ...flat('balancer', 10, 20),
      name: 'one or two nodes',
    }),
    ...r2,
    ...from('https://fly.io/docs/about/pricing/', '2026-11-30', flat('egress', 0, 0.02)),
  ],
}

/** Fly.io, Ashburn. A machine has more memory for 6 dollars a GB; requests are spread over machines at no charge; Postgres has a standby. */
const fly: PriceList = {
  name: 'fly',
  about: 'Fly.io, Ashburn; the database has a standby',
  prices: [
    ...from(
      'https://fly.io/docs/about/pricing/',
      '2026-11-30',
      { ...sized('server', 1, 2, 33), name: 'performance-1x' },
      { ...sized('server', 2, 4, 66), name: 'performance-2x' },
      { ...sized('server', 2, 8, 66 + 4 * 6), name: 'performance-2x with 4 GB more' },
      { ...sized('server', 2, 16, 66 + 12 * 6), name: 'performance-2x with 12 GB more' },
      flat('balancer', 0),
      flat('egress', 0.02),
    ),
    ...from(
      'https://fly.io/docs/mpg/',
      '2026-11-30',
      { ...sized('database', 2, 1, 38), name: 'Basic (shared CPU)' },
      { ...sized('database', 2, 2, 72), name: 'Starter (shared CPU)' },
      { ...sized('database', 2, 8, 282), name: 'Launch' },
      { ...sized('database', 4, 32, 962), name: 'Scale' },
      { ...sized('database', 8, 64, 1_922), name: 'Performance' },
    ),
    ...r2,
    ...cloudflare,
  ],
}

/** Hetzner Cloud, servers with cores of their own. What it charges for a balancer was not read. */
const hetzner: PriceList = {
  name: 'hetzner',
  about: 'Hetzner Cloud, cores of their own, in dollars at 1.1133',
  prices: [
    ...from(
      serversOfEurope,
      '2026-10-28',
      { ...sized('server', 2, 8, euros(42.99)), name: 'CCX13' },
      { ...sized('server', 4, 16, euros(85.99)), name: 'CCX23' },
      { ...sized('server', 8, 32, euros(138.49)), name: 'CCX33' },
    ),
    ...from('https://github.com/devantler-tech/platform/commit/cb791c6f', '2026-05-27', {
      ...flat('egress', 0, euros(0.001)),
      name: 'above 20 TiB a server',
    }),
    ...r2,
    ...cloudflare,
  ],
}

/** AWS, Frankfurt, on demand. Only servers were read. */
const aws: PriceList = {
  name: 'aws',
  about: 'AWS, Frankfurt, on demand; only servers were read',
  prices: [
    ...from(
      serversOfEurope,
      '2026-10-28',
      { ...sized('server', 2, 8, euros(67.86)), name: 'm6a.large' },
      { ...sized('server', 4, 16, euros(135.73)), name: 'm6a.xlarge' },
      { ...sized('server', 8, 32, euros(271.46)), name: 'm6a.2xlarge' },
      { ...sized('server', 16, 64, euros(542.93)), name: 'm6a.4xlarge' },
    ),
    ...r2,
    ...cloudflare,
  ],
}

export const priceLists: readonly PriceList[] = [generic, fly, hetzner, aws]

export interface Size {
  cores: number
  memoryGb: number
}

/** A server does what a server for jobs does. */
const insteadOf: Partial<Record<Item, Item>> = { worker: 'server' }

/**
 * Returns the lowest price of something that is at least as large; a price of the user's own stands for all others of its item. Pure.
 * @throws PRICE_MISSING
 */
export function priceOf({ name, prices }: PriceList, item: Item, size?: Size): Price {
  const found = cheapest(prices, item, size)
  if (found) return found
  const words = `${items[item]}${size ? ` with ${size.cores} cores and ${size.memoryGb} GB` : ''}`
  const example = JSON.stringify([{ item, ...size, month: null, source: '…', date: '…' }])
  throw new RungError(
    'PRICE_MISSING',
    `The list "${name}" has no price of ${words}.${size ? ' Choose another size (--server 2x8), or put' : ' Put'} it into a file and name it with --prices: ${example}`,
  )
}

/** Like `priceOf`, for what one need not buy. */
export function cheapest(prices: readonly Price[], item: Item, size?: Size): Price | undefined {
  const fits = prices.filter(
    (price) =>
      price.item === item &&
      (!size || price.cores === undefined || (price.cores >= size.cores && price.memoryGb! >= size.memoryGb)),
  )
  const other = insteadOf[item]
  return fits.sort((a, b) => a.low + a.high - b.low - b.high)[0] ?? (other ? cheapest(prices, other, size) : undefined)
}

/** Returns a list with the user's prices in place of those of the same item. Pure. */
export function withOwn(list: PriceList, own: readonly Price[]): PriceList {
  const replaced = new Set(own.map(({ item }) => item))
  return {
    ...list,
    name: own.length > 0 ? `${list.name}, with prices of your own` : list.name,
    prices: [...own, ...list.prices.filter(({ item }) => !replaced.has(item))],
  }
}
