import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isRungError } from '../../src/kernel/errors.ts'
import {
  againstBand,
  type Cost,
  costOf,
  type Purchase,
  purchasesOf,
  sharesOf,
  suggestionsFor,
  type Use,
} from '../../src/planner/cost.ts'
import { type Price, type PriceList, priceLists, priceOf, withOwn } from '../../src/planner/prices.ts'
import { rungs } from '../../src/topology/catalog.ts'

const quantities = { storageGb: 50, egressGb: 100 }
const source = { source: 'a page', date: '2026-11-30' }
const price = (item: Price['item'], month: number, cores?: number, memoryGb?: number): Price => ({
  ...{ item, low: month, high: month, ...source },
  ...(cores !== undefined && { cores, memoryGb: memoryGb! }),
})
const list: PriceList = {
  name: 'mine',
  about: 'of a test',
  prices: [
    price('server', 10, 2, 4),
    price('server', 20, 4, 8),
    price('server', 40, 4, 16),
    price('server', 70, 8, 32),
    price('balancer', 5),
    price('database', 30),
    price('replica', 25),
    price('redis', 15),
    price('storage', 0.02),
    price('egress', 0.01),
  ],
}
const counts = (purchases: readonly Purchase[]) => Object.fromEntries(purchases.map(({ part, count }) => [part, count]))

describe('what one buys', () => {
  it('is one server where all share it, and one for each kind of work behind a balancer', () => {
    const shared = { 'files and backups': 50, traffic: 100 }
    assert.deepEqual(counts(purchasesOf(rungs['1k'], quantities)), { app: 1, ...shared })
    assert.deepEqual(counts(purchasesOf(rungs['10k'], quantities)), { app: 1, ...shared })
    assert.deepEqual(counts(purchasesOf(rungs['100k'], quantities)), {
      ...{ web: 2, balancer: 1, worker: 1, database: 1, replica: 2 },
      ...shared,
    })
  })

  it('has services in place of what Rung does not run, or is asked not to', () => {
    const { data, cache } = rungs['10k']
    const outside = {
      ...rungs['10k'],
      data: { ...data, engine: 'external' as const },
      cache: { ...cache, engine: 'external' as const },
    }
    for (const purchases of [
      purchasesOf(outside, quantities),
      purchasesOf(rungs['10k'], { ...quantities, managed: true }),
    ])
      assert.deepEqual(counts(purchases), { app: 1, database: 1, redis: 1, 'files and backups': 50, traffic: 100 })
  })

  it('grows by a server when the processes have more cores than it', () => {
    const many = { ...rungs['100k'], processes: { both: 0, web: 9, worker: 5 } }
    const { web, worker } = counts(purchasesOf(many, quantities))
    assert.deepEqual([web, worker], [3, 2])
  })
})

describe('prices', () => {
  it('are those of the smallest size that is large enough, times the count', () => {
    const cost = costOf(purchasesOf(rungs['100k'], quantities), list)
    // 2 web + 1 worker + 1 primary + 2 replicas at 40, the balancer at 5, 50 GB at 0.02, 100 GB at 0.01
    assert.equal(cost.low, 6 * 40 + 5 + 1 + 1)
    assert.equal(cost.high, cost.low)
  })

  it('that are missing are an error that has the row to write', () => {
    const without = { ...list, prices: list.prices.filter(({ item }) => item !== 'balancer') }
    assert.throws(
      () => costOf(purchasesOf(rungs['100k'], quantities), without),
      (error) =>
        isRungError(error) && error.code === 'PRICE_MISSING' && /load balancer.*"item":"balancer"/.test(error.message),
    )
    assert.throws(
      () => priceOf(list, 'server', { cores: 64, memoryGb: 8 }),
      (error) => isRungError(error) && error.code === 'PRICE_MISSING' && /64 cores/.test(error.message),
    )
  })

  it("of one's own stand for all of the same item", () => {
    const own = withOwn(list, [price('server', 11, 4, 16)])
    assert.equal(priceOf(own, 'server', { cores: 2, memoryGb: 4 }).low, 11)
    assert.equal(priceOf(own, 'balancer').low, 5)
  })

  it('each have a source and a date, and the generic list prices every rung', () => {
    for (const { name, prices } of priceLists) {
      for (const { item, source, date, low, high } of prices) {
        assert.ok(source.length > 0 && !Number.isNaN(Date.parse(date)), `${name} ${item}`)
        assert.ok(low <= high, `${name} ${item}`)
      }
    }
    for (const rung of Object.values(rungs))
      for (const managed of [false, true]) costOf(purchasesOf(rung, { ...quantities, managed }), priceLists[0]!)
  })
})

describe('the reported band', () => {
  const cost = (low: number, high: number): Cost => ({
    ...{ low, high },
    lines: [{ item: 'server', part: 'app', count: 1, low, high, price: source }],
  })

  it('is agreed with, or the difference has its reason', () => {
    assert.match(againstBand(cost(90, 110), '1k', undefined), /agrees/)
    assert.match(
      againstBand(cost(60, 80), '1k', cost(81, 133)),
      /on 1 server, .* Bought, it would be \$81–133, which agrees/,
    )
    assert.match(againstBand(cost(60, 80), '10k', cost(101, 193)), /the reported sizes must be larger/)
    assert.match(againstBand(cost(900, 1_000), '1k', undefined), /this is more: 100 % of it is for app/)
  })
})

describe('shares', () => {
  it('divide what computes, and leave storage and traffic alone', () => {
    const cost = costOf(purchasesOf(rungs['1k'], quantities), list)
    const work = [
      { name: 'GET /a', module: 'one', amount: 3 },
      { name: 'GET /b', module: 'one', amount: 1 },
      { name: 'job c', module: '(jobs)', amount: 4 },
    ]
    assert.deepEqual(
      sharesOf(cost, work, 'name').map(({ name, low }) => [name, low]),
      [
        ['job c', 10],
        ['GET /a', 7.5],
        ['GET /b', 2.5],
      ],
    )
    assert.deepEqual(
      sharesOf(cost, work, 'module').map(({ name, share }) => [name, share]),
      [
        ['one', 0.5],
        ['(jobs)', 0.5],
      ],
    )
    assert.deepEqual(sharesOf(cost, [], 'name'), [])
  })
})

describe('suggestions', () => {
  const gib = 1024 ** 3
  const use: Use = {
    ...{ coresMost: 1, coresMean: 0.5, memoryBytesMost: 2 * gib, hourMost: 100, hourMean: 50 },
    ...{ databaseCoresMost: 0.4, hours: 168 },
  }
  const suggested = (rung: keyof typeof rungs, changed: Partial<Use> = {}, grown?: Cost) => {
    const topology = rungs[rung]
    const cost = costOf(purchasesOf(topology, quantities), list)
    return suggestionsFor(cost, list, { use: { ...use, ...changed }, topology, grown })
  }

  it('take the smallest server of which the busiest hour uses 60 %', () => {
    const [first, ...others] = suggested('1k')
    assert.match(first!.what, /server of 2 cores and 4 GB/)
    assert.deepEqual(first!.saving, { low: 10, high: 10 })
    assert.deepEqual(others, [])
    // 1.3 cores are 60 % of 2.2: only the server that is there is large enough.
    assert.deepEqual(suggested('1k', { coresMost: 1.3 }), [])
  })

  it('do without replicas only where one server carries the reads too', () => {
    const of = (changed: Partial<Use>) => suggested('100k', changed).map(({ what }) => what)
    assert.ok(of({}).some((what) => /Do without the replicas/.test(what)))
    assert.ok(!of({ databaseCoresMost: 2.5 }).some((what) => /Do without/.test(what)))
  })

  it('take spot servers for workers, and a larger machine before the next rung', () => {
    const spot = suggested('100k').find(({ what }) => /spot/.test(what))!
    assert.deepEqual(spot.saving, { low: 20, high: 28 })
    const grown = costOf(purchasesOf(rungs['100k'], quantities), list)
    const larger = suggested('1k', {}, grown).find(({ what }) => /Before the next rung/.test(what))!
    assert.match(larger.what, /8 cores and 32 GB/)
    // 247 for the rung; 70 for the machine, 2 for storage and traffic.
    assert.deepEqual(larger.saving, { low: 175, high: 175 })
  })

  it('pay by use only where the busiest hour stands out', () => {
    const isServerless = (changed: Partial<Use>) =>
      suggested('1k', { coresMean: 0.01, memoryBytesMost: gib, ...changed }).some(({ what }) => /by use/.test(what))
    assert.ok(!isServerless({ hourMost: 200 }))
    assert.ok(isServerless({ hourMost: 500 }))
  })
})
