import assert from 'node:assert/strict'
import { it } from 'node:test'
import { capacityOf, checkOf, headroomOf, needsAt } from '../../src/planner/capacity.ts'
import {
  connectionsOf,
  countsOf,
  demandOfParts,
  type Model,
  modelOf,
  partsOf,
  variabilityOf,
} from '../../src/planner/demand.ts'
import { forecastOf } from '../../src/planner/forecast.ts'
import { given, type Interval, prior, scaled } from '../../src/planner/interval.ts'
import { told } from '../../src/planner/tell.ts'
import type { Users } from '../../src/planner/users.ts'
import type { Scaling } from '../../src/planner/usl.ts'
import { rungs } from '../../src/topology/catalog.ts'

const objective = { p95Ms: 100, failing: 0.01 }
const near = (value: number, expected: number, share: number) =>
  assert.ok(Math.abs(value / expected - 1) <= share, `${value} is not ${expected}`)
const measured = (likely: number): Interval => ({ low: 0.9 * likely, likely, high: 1.1 * likely, from: 'measured' })

/** Three web processes, one core each, and Postgres with four. */
const model: Model = {
  ...modelOf(partsOf({ web: 3, postgres: 1 }, 4), { connections: 40, machineCores: undefined }),
  demand: { web: measured(10), postgres: measured(8) },
  variability: given(1),
}

it('the part with the least time left sets the ceiling', () => {
  const { ceiling, stations } = capacityOf(model, objective)
  const of = (name: string) => stations.find((one) => one.name === name)!
  assert.deepEqual([of('web').has, of('postgres').has, of('pools').has], [3, 4, 40])
  near(of('web').rateMax.likely, 300, 1e-9)
  near(of('postgres').rateMax.likely, 500, 1e-9)
  assert.equal(of('web').first, 1)
  assert.ok(ceiling.likely > 200 && ceiling.likely < 300)
  assert.ok(ceiling.low < ceiling.likely && ceiling.likely < ceiling.high && ceiling.from === 'measured')
  near(
    stations.reduce((sum, { first }) => sum + first, 0),
    1,
    1e-9,
  )
})

it('on one machine all parts share its cores', () => {
  const shared = capacityOf({ ...model, machineCores: 4 }, objective)
  const machine = shared.stations.find(({ name }) => name === 'machine')!
  near(machine.rateMax.likely, 4_000 / 18, 1e-9)
  assert.equal(machine.first, 1)
})

it('repeats with the seed, and every interval contains its likely value', () => {
  const priors = modelOf(partsOf(countsOf(rungs['100k']), 4), {
    connections: connectionsOf(rungs['100k']),
    machineCores: 4,
  })
  const one = capacityOf(priors, objective, { seed: 3 })
  assert.deepEqual(one, capacityOf(priors, objective, { seed: 3 }))
  assert.notDeepEqual(one.ceilings, capacityOf(priors, objective, { seed: 4 }).ceilings)
  for (const { low, likely, high } of [one.ceiling, ...one.stations.flatMap((all) => [all.demandMs, all.rateMax])])
    assert.ok(low <= likely && likely <= high && likely > 0)
  assert.deepEqual(
    one.stations.map(({ name }) => name),
    ['edge', 'balancer', 'web', 'worker', 'pooler', 'redis', 'postgres', 'replica', 'pools', 'machine'],
  )
})

it('more demand lowers the ceiling in each simulation, and k times of all of it divides what is carried by k', () => {
  const all = capacityOf(model, { failing: 0 })
  for (const k of [1.5, 4]) {
    const demand = { web: scaled(model.demand.web!, k), postgres: scaled(model.demand.postgres!, k) }
    const more = capacityOf({ ...model, demand }, { failing: 0 })
    for (const [index, ceiling] of all.ceilings.entries()) near(more.ceilings[index]!, ceiling / k, 1e-9)
    const slower = capacityOf({ ...model, demand: { ...model.demand, web: demand.web } }, objective)
    const before = capacityOf(model, objective)
    assert.ok(slower.ceilings.every((one, index) => one < before.ceilings[index]!))
  }
})

it('headroom is told in both ways', () => {
  const { free, growth } = headroomOf(given(300), { ...measured(500), low: 400, high: 600 })
  assert.deepEqual(
    [free.low, free.likely, free.high].map((one) => one.toFixed(2)),
    ['0.25', '0.40', '0.50'],
  )
  assert.deepEqual(
    [growth.low, growth.likely, growth.high].map((one) => one.toFixed(2)),
    ['0.33', '0.67', '1.00'],
  )
})

it('headroom of a thousand percent is not told of priors', () => {
  const sayOf = (users: Users) =>
    told(
      forecastOf({ ...{ topology: rungs['1k'], cores: 4, spread: false, objective, users, peaks: [] }, today: 20_787 }),
    ).join(' ')
  assert.match(sayOf({ registered: 1 }), /there is room to grow to more than 10 times as much\./)
  assert.match(sayOf({ rate: 100 }), /there is room to grow by \d+ % \(/)
})

it('a quota makes a process slower, and a measurement at one rung is carried over to another', () => {
  assert.deepEqual(partsOf({ web: 4, postgres: 1, archiver: 1 }, 2, 0.15), [
    { name: 'web', count: 4, coresEach: 0.15 },
    { name: 'postgres', count: 1, coresEach: 2 },
  ])
  // bench/results/ladder.json, 0.15 cores each: 209/s at 1k with 0.659 ms, 401/s with four web processes and 1.26 ms, as 32 visitors found.
  const ofWeb = (count: number, ms: number) =>
    capacityOf({ ...model, parts: partsOf({ web: count }, 2, 0.15), demand: { web: given(ms) } }, { failing: 0 })
      .ceiling.likely
  near(ofWeb(1, 0.659), 209, 0.1)
  near(ofWeb(4, 1.26), 401, 0.2)

  const at1k = { app: measured(2), postgres: measured(1) }
  const at100k = demandOfParts(partsOf(countsOf(rungs['100k']), 4), at1k)
  assert.deepEqual([at100k.web, at100k.worker!.likely, at100k.edge!.from], [measured(2), 0, 'prior'])
  near(at100k.postgres!.likely + at100k.replica!.likely, 1, 1e-9)
  assert.ok(at100k.replica!.likely > at100k.postgres!.likely)
  const back = demandOfParts(partsOf(countsOf(rungs['10k']), 4), { ...at1k, replica: measured(3) })
  assert.equal(back.postgres!.likely, 4)
})

it('costs that differ between routes make queues longer', () => {
  assert.equal(variabilityOf([]).from, 'prior')
  const equal = variabilityOf([
    { share: 0.5, cpuMs: 3 },
    { share: 0.5, cpuMs: 3 },
  ])
  const mixed = variabilityOf([
    { share: 0.9, cpuMs: 1 },
    { share: 0.1, cpuMs: 30 },
  ])
  assert.deepEqual([equal.low, equal.likely, equal.from], [0.30000000000000004, 1, 'measured'])
  assert.ok(mixed.likely > 5 * equal.likely)
})

it('what ten times the rate needs is enough for it, in the order in which parts are used up', () => {
  const needs = needsAt(model, objective, 200, 10)
  assert.deepEqual(
    needs.map(({ name }) => name),
    ['web', 'postgres', 'pools'],
  )
  near(needs[0]!.usedUpAt, 1.5, 1e-9)
  near(needs[1]!.usedUpAt, 2.5, 1e-9)
  const [web, postgres, pools] = needs.map((one) => one.needs!)
  // 2,000/s keep 20 web processes and 16 cores busy.
  assert.ok(web! > 20 && web! < 26 && postgres! > 16 && postgres! < 22, `${web}, ${postgres}`)
  const parts = [
    { name: 'web', count: web!, coresEach: 1 },
    { name: 'postgres', count: 1, coresEach: postgres! },
  ]
  assert.ok(capacityOf({ ...model, parts, connections: pools! }, objective).ceiling.likely >= 2_000)
  assert.deepEqual(needsAt(model, { ...objective, p95Ms: 1 }, 200, 10), [], 'the service alone takes longer')
})

it('a part that cannot grow, and processes that stand in each other’s way, are told', () => {
  const beside = (part: string) => ({
    ...model,
    parts: partsOf({ web: 3, [part]: 1 }, 4),
    demand: { web: measured(10), [part]: measured(1) },
  })
  const needOf = (part: string) => needsAt(beside(part), objective, 200, 10).find(({ name }) => name === part)
  assert.deepEqual(needOf('pooler'), { name: 'pooler', usedUpAt: 5, has: 1, needs: undefined, unit: 'processes' })
  assert.deepEqual(needOf('redis'), { name: 'redis', usedUpAt: 5, has: 1, needs: 3, unit: 'processes' })
  const law: Scaling = { single: 1, contention: given(0.1), coherency: given(0.01), peak: 9.5 }
  const crowded = needsAt({ ...model, scaling: { law, measuredWith: 3 } }, objective, 200, 10)
  assert.deepEqual(crowded.map(({ name, needs }) => [name, needs === undefined]).slice(0, 2), [
    ['web', true],
    ['postgres', false],
  ])
})

it('the model is compared with the load test, with the cores that the test had', () => {
  const measurement = {
    ...{ counts: { app: 1, postgres: 1 }, cores: 2, others: 0.5, routes: [] },
    demand: { app: measured(2), postgres: measured(1) },
    limit: prior(320, 350, 380),
  }
  const steps = [50, 100, 150, 400].map((rate) => ({ rate, p95: 30 }))
  const { check, fixedMs } = checkOf({ ...measurement, steps }, { connections: 20, objective })
  assert.ok(fixedMs > 10 && fixedMs < 28, `${fixedMs}`)
  // 1.5 cores for 3 ms are 500/s, and so is one thread for 2 ms; the queue of the p95 takes some of it.
  assert.ok(check.predicted.likely > 250 && check.predicted.likely < 500)
  assert.deepEqual(check.measured, measurement.limit)
  assert.equal(checkOf({ ...measurement, steps: [] }, { connections: 20, objective }).fixedMs, 0)
})
