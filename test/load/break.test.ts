import assert from 'node:assert/strict'
import { it } from 'node:test'
import { breakLines, refusedShare, stepLine } from '../../src/cli/load-break.ts'
import { saturatedIn } from '../../src/fleet/usage.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { findLimit, heldUpTo, type Measured, type Step } from '../../src/load/break.ts'
import { countsOfKinds, demandOf, demandsOfRoutes, mixOf } from '../../src/load/demands.ts'

/** A queue with one server and random arrivals, whose p95 is known: −ln(0.05) · service / (1 − load). Its noise comes from the seed. */
function queue(capacity: number, noise: number, seed: number) {
  const random = seededRandom(seed)
  return (rate: number): Measured => {
    const load = rate / (capacity * (1 + noise * (random() - 0.5)))
    const p95 = load < 1 ? (3 * (1_000 / capacity)) / (1 - load) : 60_000
    return { rate, p95, failing: load < 1 ? 0 : 1 - 1 / load, limited: 0, goodput: Math.min(rate, capacity) }
  }
}

const objective = { p95Ms: 60, failing: 0.01 }

it('the limit of a queue is found, within what its noise allows', async () => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const capacity = 90 + 37 * seed
    // 3 · 1000 / capacity / (1 − load) = 60
    const truth = capacity * (1 - 50 / capacity)
    const noisy = queue(capacity, 0.05, seed)
    const { rate, least, most, confidence, isOpen, steps, throughput } = await findLimit({
      ...{ objective, from: 10, rateMax: 100_000, rounds: 5, random: seededRandom(seed) },
      measure: async (one) => noisy(one),
    })
    assert.equal(isOpen, false)
    assert.ok(rate > 0.72 * truth && rate < 1.1 * truth, `${rate} for ${truth}`)
    assert.ok(least <= rate && rate <= most && confidence > 0.93)
    assert.equal(throughput, capacity, 'beyond the limit the server is full')
    assert.deepEqual(steps.filter(({ stage }) => stage === 'round').length, 30)
    const orders = [0, 1].map((round) => steps.filter(({ stage }) => stage === 'round').slice(6 * round, 6 * round + 6))
    assert.notDeepEqual(
      orders[0]!.map((one) => one.rate),
      orders[1]!.map((one) => one.rate),
      'in another order each time',
    )
  }
})

it('a limit that was not reached is open, and says up to where it held', async () => {
  const steps: Step[] = []
  const { rate, isOpen, confidence } = await findLimit({
    ...{ objective, from: 10, rateMax: 100_000, rounds: 5, random: seededRandom(1) },
    measure: async (one) => (one > 300 ? undefined : queue(10_000, 0, 1)(one)),
    onStep: (step) => steps.push(step),
  })
  assert.deepEqual([rate, isOpen, confidence], [160, true, 0])
  assert.deepEqual(
    steps.map((one) => one.rate),
    [10, 20, 40, 80, 160],
  )
})

it('a first rate that is too high is halved until the objective holds', async () => {
  const { rate, isOpen } = await findLimit({
    ...{ objective, from: 400, rateMax: 100_000, rounds: 3, random: seededRandom(1) },
    measure: async (one) => queue(100, 0, 1)(one),
  })
  assert.ok(!isOpen && rate > 40 && rate <= 50, `${rate}`)
})

it('one rate that contradicts all others does not decide', () => {
  const upTo = (text: string) => heldUpTo([...text].map((one) => one === '+'))
  assert.deepEqual(
    ['++++--', '-+++--', '++++-+', '------', '++++++', '+-+-+-', '--++--'].map(upTo),
    [4, 4, 4, 0, 6, 1, 0],
  )
})

it('an app that never holds the objective has the limit 0', async () => {
  const { rate, most } = await findLimit({
    ...{ objective, from: 10, rateMax: 100_000, rounds: 5, random: seededRandom(1) },
    measure: async (one) => ({ rate: one, p95: 5_000, failing: 0, limited: 0, goodput: one }),
  })
  assert.deepEqual([rate, most], [0, 0])
})

it('what is used up is named with its figure, the most used first', () => {
  const usage = {
    seconds: 5,
    machine: { cores: 1.2, of: 2 },
    parts: [
      { name: 'web-1', cores: 0.9, of: 1, loop: 0.97, poolWait95Ms: 3 },
      { name: 'web-2', cores: 0.5, of: 1, loop: 0.5, poolWait95Ms: 70 },
      {
        ...{ name: 'postgres', cores: 0.3, of: 2 },
        sessions: { active: 8, waiting: { locks: 6, 'the disk': 0.9 }, connections: { most: 50, of: 97 } },
      },
      { name: 'postgres-2', cores: 0.1, of: 2, sessions: { active: 0.4, waiting: { 'the disk': 0.4 } } },
    ],
  }
  assert.deepEqual(saturatedIn(usage, 60), [
    { part: 'web-2', figure: 'its statements wait 70 ms for a connection (p95)', share: 70 / 60 },
    { part: 'web-1', figure: 'its event loop is busy for 97 % of the time', share: 0.97 },
    { part: 'web-1', figure: '90 % of one core', share: 0.9 },
    { part: 'postgres', figure: '75 % of the time its sessions wait for locks, 6.0 at a time', share: 0.75 },
  ])
})

it('a demand is what a journey adds to what the parts use at rest, for all processes of a kind together', () => {
  const parts = (web1: number, web2: number, postgres: number) => [
    { name: 'web-1', cores: web1 },
    { name: 'web-2', cores: web2 },
    { name: 'postgres', cores: postgres },
  ]
  const demand = demandOf(
    { seconds: 10, parts: parts(0.31, 0.21, 0.15) },
    { seconds: 2, parts: parts(0.01, 0.01, 0.05) },
    1_000,
  )
  assert.deepEqual(demand, { web: 5, postgres: 1 })
})

it('what a journey of the mix costs is an interval over the steps near the limit', () => {
  const idle = { seconds: 2, parts: [{ name: 'web-1', cores: 0.1 }] }
  const looks = [0.5, 0.6, 0.6, 0.6, 0.7].map((cores) => ({
    journeys: 100,
    used: {
      seconds: 10,
      machine: { cores: 1.5 },
      parts: [
        { name: 'web-1', cores },
        { name: 'postgres-2', cores: 0.2 },
      ],
    },
    routes: { list: { count: 100 }, one: { count: 250 } },
  }))
  const { requests, demand, others } = mixOf(looks, idle)
  assert.deepEqual(requests, { list: 1, one: 2.5 })
  assert.deepEqual(demand, { web: { low: 40, likely: 50, high: 60 }, replica: { low: 20, likely: 20, high: 20 } })
  const few = mixOf(looks.slice(1, 3), idle, { list: { web: 10 }, one: { web: 4, 'postgres-2': 1 } }).demand.web!
  assert.deepEqual([few.low, few.likely, few.high], [16, 20, 50], 'of the routes')
  assert.equal(others.toFixed(3), '0.700', 'of 1.5 busy cores')
  assert.deepEqual(countsOfKinds(['web-1', 'web-2', 'postgres', 'postgres-2', 'postgres-3']), {
    web: 2,
    postgres: 1,
    replica: 2,
  })
})

it('the demand of a journey is divided among its routes by their times', () => {
  const reader = { journeys: 100, demand: { web: 5, redis: 1 }, routes: { list: { count: 100, mean: 4 } } }
  const writer = {
    ...{ journeys: 50, demand: { web: 9, postgres: 3 } },
    routes: { list: { count: 50, mean: 10 }, create: { count: 100, mean: 10 } },
  }
  const { list, create } = demandsOfRoutes([reader, writer])
  assert.deepEqual(create, { web: 3, postgres: 1 })
  assert.deepEqual(list, { web: Math.round((1_000 * (500 + 150)) / 150) / 1_000, redis: 0.667, postgres: 0.333 })
})

const step: Step = { rate: 10, p95: 5, failing: 0, limited: 0, goodput: 10, stage: 'climb', held: true }

it('answers of 429 at a rate that did not hold are told as what they are, in the step and at the end', () => {
  const limited: Step = { ...step, rate: 20, failing: 0.4, limited: 0.4, held: false }
  const sentence = "429: the app's rate limits refuse the load; start it with RUNG_LIMITS=off."
  const view = {
    ...{ url: '', objective, rate: 10, least: 10, most: 10, confidence: 0, throughput: 10, isOpen: false },
    ...{ saturated: [], usages: [], demands: undefined, demandsFile: undefined, unsent: [] },
  }
  assert.equal(breakLines({ ...view, steps: [step, limited] })[2], sentence)
  assert.ok(stepLine(limited).includes(sentence))
  assert.ok(!breakLines({ ...view, steps: [step] }).includes(sentence))
  assert.ok(!stepLine({ ...limited, limited: 0 }).includes('429'))
})

it('where nothing held, no rate is called the limit', () => {
  const lines = breakLines({
    ...{ url: '', objective, rate: 0, least: 0, most: 0, confidence: 0, throughput: 10, isOpen: false },
    ...{ saturated: [], usages: [], demands: undefined, demandsFile: undefined, unsent: [] },
    steps: [{ ...step, rate: 0.313, held: false }],
  })
  assert.match(lines[1]!, /held at no rate down to 0\.313 journeys\/s\.$/)
})

it('a rate that could not be sent is told, and why', () => {
  const lines = breakLines({
    ...{ url: '', objective, rate: 10, least: 10, most: 10, confidence: 0, throughput: 10, isOpen: true },
    steps: [step],
    ...{ saturated: [], usages: [], demands: undefined, demandsFile: undefined },
    unsent: [{ rate: 20, why: 'The generator began 2 of 60 journeys too late.' }],
  })
  assert.equal(lines[2], 'Not measured at 20/s: The generator began 2 of 60 journeys too late.')
})

it('refusals are no work: their costs are not kept, and it is said why', () => {
  assert.equal(refusedShare({ count: 100, failures: { 429: 60, 404: 20, 503: 10, timeout: 5 } }), 0.8)
  assert.equal(refusedShare({ count: 0, failures: {} }), 0)
  const text = breakLines({
    ...{ url: '', objective, rate: 10, least: 10, most: 10, confidence: 0, throughput: 10, isOpen: true },
    steps: [step],
    ...{ saturated: [], usages: [], demands: undefined, demandsFile: undefined, unsent: [] },
    refused: { journey: 'reader', share: 0.8 },
  }).join('\n')
  assert.match(text, /Nothing was kept: 80 % of the requests of "reader" were refused \(4xx\)[\s\S]* RUNG_LIMITS=off/)
})
