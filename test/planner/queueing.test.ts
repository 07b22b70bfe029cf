import assert from 'node:assert/strict'
import { it } from 'node:test'
import { seededRandom } from '../../src/kernel/random.ts'
import { ceilingOf, erlangC, p95Of, rateMaxOf, type Station } from '../../src/planner/queueing.ts'

const station = (servers: number, serviceMs: number, variability = 1): Station => ({
  ...{ name: 'one', servers, serviceMs, variability, seen: 'all' },
})
const near = (value: number, expected: number, share: number) =>
  assert.ok(Math.abs(value / expected - 1) <= share, `${value} is not ${expected}`)

it('Erlang C is that of the tables', () => {
  // Kleinrock, Queueing Systems I: M/M/1 waits with its utilisation, M/M/2 with 2ρ² / (1 + ρ); the others are in tables for call centres.
  for (const [servers, load, expected] of [
    [1, 0.5, 0.5],
    [2, 1, 1 / 3],
    [3, 2, 4 / 9],
    [5, 4, 0.5541],
    [10, 8, 0.4092],
    [14, 10, 0.1741],
    [100, 90, 0.217],
  ] as const)
    near(erlangC(servers, load), expected, 0.001)
  assert.equal(erlangC(2, 2), 1)
})

it('the p95 of M/M/1 is −ln(0.05) · service / (1 − utilisation)', () => {
  for (const utilisation of [0.1, 0.5, 0.8, 0.95])
    near(p95Of([station(1, 10)], 100 * utilisation), (-Math.log(0.05) * 10) / (1 - utilisation), 0.012)
  assert.equal(p95Of([station(1, 10)], 100), Number.POSITIVE_INFINITY)
  near(p95Of([station(1, 10)], 50, 7), 7 + 59.9, 0.012)
})

it('a queue is shorter where service times are equal, and where more servers share it', () => {
  const p95 = (servers: number, variability: number) =>
    p95Of([station(servers, 10 * servers, variability)], 80) / servers
  // Pollaczek-Khinchine: the mean wait of M/D/1 is half of M/M/1's, 20 of 40 ms; the p95 is below that of an exponential time with this mean.
  assert.ok(p95(1, 0) < 3 * 30 && p95(1, 0) > 30)
  assert.ok(p95(1, 0) < p95(1, 1) && p95(1, 1) < p95(1, 4))
  assert.ok(p95(4, 1) < p95(1, 1))
})

it('the ceiling of M/M/1 is where its p95 is the objective', () => {
  // −ln(0.05) · 10 / (1 − ρ) = 100
  near(ceilingOf([station(1, 10)], { p95Ms: 100, failing: 0.01 }), 100 * (1 + Math.log(0.05) / 10), 0.01)
  assert.equal(ceilingOf([station(1, 10)], { p95Ms: 25, failing: 0.01 }), 0, 'the service alone takes longer')
  near(ceilingOf([station(1, 10), station(1, 2)], { failing: 0.01 }), 100 / 0.99, 1e-9)
})

/** Some stations, as a seed has them. */
function stations(seed: number): Station[] {
  const random = seededRandom(seed)
  const seen = ['all', 'wait', 'service', 'none'] as const
  return Array.from({ length: 1 + Math.floor(5 * random()) }, (_, index) => ({
    ...station(1 + Math.floor(8 * random()), 0.1 + 20 * random(), 4 * random()),
    seen: index === 0 ? 'all' : seen[Math.floor(4 * random())]!,
  }))
}

it('more demand never raises the ceiling, and k times of all demands and of the objective divide it by k', () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const all = stations(seed)
    const objective = { p95Ms: 20 * seed, failing: 0.01 }
    const ceiling = ceilingOf(all, objective)
    const times = (k: number, index?: number) =>
      all.map((one, at) => (index === undefined || at === index ? { ...one, serviceMs: k * one.serviceMs } : one))
    for (const index of all.keys()) {
      assert.ok(ceilingOf(times(1.3, index), objective) <= ceiling * (1 + 1e-6), `seed ${seed}`)
      const more = all.map((one, at) => (at === index ? { ...one, servers: one.servers + 1 } : one))
      assert.ok(ceilingOf(more, objective) >= ceiling * (1 - 1e-6), `seed ${seed}`)
    }
    if (ceiling > 0) near(ceilingOf(times(3), { ...objective, p95Ms: 3 * objective.p95Ms }), ceiling / 3, 1e-6)
    near(ceilingOf(times(3), { failing: 0 }), ceilingOf(all, { failing: 0 }) / 3, 1e-9)
    assert.ok(ceiling <= Math.min(...all.map(rateMaxOf)))
  }
})

/** Requests that pass stations one after the other: the p95 of their times. */
function simulated(all: readonly Station[], perSecond: number, seed: number): number {
  const random = seededRandom(seed)
  const exponential = (mean: number) => -mean * Math.log(1 - random())
  /** Deterministic, exponential, or of two kinds of requests (hyperexponential with balanced means). */
  function service({ serviceMs, variability }: Station): number {
    if (variability === 0) return serviceMs
    const share = (1 + Math.sqrt((variability - 1) / (variability + 1))) / 2
    return random() < share ? exponential(serviceMs / (2 * share)) : exponential(serviceMs / (2 * (1 - share)))
  }
  const free = all.map(({ servers }) => new Array<number>(servers).fill(0))
  let due = 0
  let requests = Array.from({ length: 40_000 }, () => {
    due += exponential(1_000 / perSecond)
    return { due, at: due }
  })
  for (const [index, station] of all.entries()) {
    for (const request of requests) {
      const first = free[index]!.indexOf(Math.min(...free[index]!))
      request.at = Math.max(request.at, free[index]![first]!) + service(station)
      free[index]![first] = request.at
    }
    requests = requests.sort((a, b) => a.at - b.at)
  }
  const times = requests.map((one) => one.at - one.due).sort((a, b) => a - b)
  return times[Math.floor(0.95 * times.length)]!
}

it('the approximations are near what a simulation of the queues finds', () => {
  for (const [all, perSecond, share] of [
    [[station(2, 10)], 160, 0.1],
    [[station(4, 10, 0)], 320, 0.15],
    [[station(4, 10, 3)], 320, 0.15],
    [[station(1, 2), station(3, 20, 2), station(2, 5)], 110, 0.15],
  ] as const)
    near(p95Of(all, perSecond), simulated(all, perSecond, 1), share)
})
