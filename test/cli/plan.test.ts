import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { claim } from '../../src/engines/process/pid-file.ts'
import { fleetDir } from '../../src/fleet/placement.ts'
import type { Demands, KeptLimit } from '../../src/load/demands.ts'
import { dayOf, dayText } from '../../src/planner/trend.ts'

const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
after(() => rm(dir, { recursive: true, force: true }))

const plan = (...args: string[]) => command(['plan', ...args], { RUNG_NODE_CPU: '0.5' })

async function command(words: string[], env: Record<string, string>) {
  const lines: string[] = []
  let document: unknown
  const code = await main(words, { RUNG_CONFIG: 'none', ...env }, dir, {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void lines.push(text),
    json: (value) => {
      document = JSON.parse(JSON.stringify(value))
    },
  })
  return {
    code,
    lines,
    table: lines.join('\n'),
    text: lines.join('\n').replaceAll(/(?<=\S)\n(?=\S)/g, ' '),
    document: document as never,
  }
}

const limit: KeptLimit = {
  ...{ at: '2026-11-29T10:00:00.000Z', rung: '100k', build: 'abc', nodeCpu: 0.5, web: 3 },
  ...{ rate: 200, least: 190, most: 210, isOpen: false, p95Ms: 112, failing: 0.01, requests: 2, first: 'web-1' },
}
const demands: Demands = {
  ...{ at: limit.at, rung: '100k', build: 'abc', cores: 8, scenario: 'load.ts', nodeCpu: 0.5 },
  journeys: {},
  routes: { list: { web: 4 }, one: { web: 2 } },
  counts: { edge: 1, balancer: 1, web: 3, worker: 1, pooler: 1, redis: 1, postgres: 1, replica: 2 },
  mix: {
    requests: { list: 1, one: 1 },
    demand: Object.fromEntries(
      [
        ['edge', 0.2],
        ['balancer', 0.2],
        ['web', 6],
        ['worker', 0.1],
        ['pooler', 0.2],
        ['redis', 0.1],
        ['postgres', 0.5],
        ['replica', 2],
      ].map(([part, ms]) => [part, { low: 0.95 * Number(ms), likely: Number(ms), high: 1.05 * Number(ms) }]),
    ),
    others: 0.8,
  },
  limit,
  earlier: [],
  steps: [20, 40, 200].map((rate) => ({ rate, p95: 25, failing: 0, held: true })),
}
async function put(name: string, value: unknown): Promise<void> {
  await mkdir(path.dirname(path.join(dir, name)), { recursive: true })
  await writeFile(path.join(dir, name), JSON.stringify(value))
}
const today = dayOf(new Date(Date.now()).toISOString())
const days = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    day: dayText(today - count + 1 + index),
    peak: 150 * 1.04 ** (index / 7),
  }))

it('without a measurement it works with priors, and says how to measure', async () => {
  const { code, lines, table, text } = await plan('100k', '--users', '1000000', '--cores', '4')
  assert.equal(code, 0, text)
  assert.match(text, /Costs are priors, of other apps: .* rung load --to-break/)
  assert.match(table, /^registered +1,000,000 +1,000,000 +1,000,000 {2}given$/m)
  assert.match(table, /^requests\/s .* prior$/m)
  assert.match(table, /^machine +4 .* prior /m)
  assert.match(text, /The ceiling is \S+ \(\S+ to \S+\) requests\/s \(p95 at most 200 ms, at most 1 % failed\)/)
  assert.deepEqual(
    lines.filter((line) => line.length > 80),
    [],
  )
})

it('the sizing example is reproduced, questioned, and with a limit refused', async () => {
  const example = ['100k', '--users', '1000000', '--daily', '100000', '--concurrent', '10000', '--rate', '50000']
  const { text } = await plan(...example)
  assert.match(text, /50,000 requests\/s are \d+(\.\d)? times the ceiling/)
  assert.match(text, /A question: 5 requests\/s of each concurrent user/)
  const refused = await plan(...example, '--limit', '100')
  assert.equal(refused.code, 1)
  assert.match(refused.text, /PLAN_CONTRADICTION[\s\S]*allows 16,667 requests\/s at most/)
  assert.doesNotMatch(refused.text, /ceiling/)
})

it('a measurement replaces priors, and is compared with what it found', async () => {
  await put('.rung/load/demands.json', demands)
  const { text, table, lines } = await plan('100k', '--rate', '180')
  assert.match(text, /measured on 2026-11-29 at rung 100k, with load\.ts\./)
  assert.match(text, /p95 at most 112 ms/, 'the objective is that of the measurement')
  // Three processes with half a core each, 3 ms for a request: 500/s without a queue.
  assert.match(table, /^web +1\.5 +3 {2}measured +\d+ +500 +\d+ +100 %$/m)
  assert.match(text, /First used up: web in 100 % of 500 simulations/)
  assert.match(
    text,
    /At 180 requests\/s \d+ % \(\d+ to \d+ %\) of the capacity is free, and there is room to grow by \d+ %/,
  )
  assert.match(text, /The load test found 400 \(380 to 420\) requests\/s; .* the model says \d+ \(\d+ to \d+\)/)
  assert.deepEqual(
    lines.filter((line) => line.length > 80),
    [],
  )

  const view = (await plan('100k', '--rate', '180', '--json')).document as {
    ceiling: { low: number; likely: number; high: number; from: string }
    measured: { isOfOtherBuild: boolean }
    says: string[]
  }
  assert.ok(view.ceiling.likely > 300 && view.ceiling.likely < 500 && view.ceiling.low < view.ceiling.likely)
  assert.deepEqual([view.ceiling.from, view.measured.isOfOtherBuild], ['measured', false])
  assert.ok(view.says.length >= 3)

  await writeFile(path.join(dir, 'app.ts'), 'export default {}\n')
  assert.match((await plan('100k', 'app.ts')).text, /The code has changed since: measure again/)
  await rm(path.join(dir, 'app.ts'))
})

it('ten times the rate: what is used up, in order, and what it needs', async () => {
  const { text, table } = await plan('100k', '--rate', '180', '--times', '10', '--spread')
  assert.match(text, /10 times the rate of today are 1,800 requests\/s: carried in 0 % of the simulations/)
  assert.match(table, /^web +2\.78 × +3 +\d+ {2}processes$/m)
  assert.match(text, /taken to carry as much each, however many they are: one size was measured/)
  const sizes = [1, 2, 4].map((web) => ({ ...limit, web, rate: (70 * web) / (1 + 0.02 * (web - 1)) }))
  await put('.rung/load/demands.json', { ...demands, limit: { ...limit, rate: 210 / 1.04 }, earlier: sizes })
  assert.match((await plan('100k')).text, /Of the work of web processes 2 %.* is done by one at a time/)
  await put('.rung/load/demands.json', demands)
})

it('an objective that holds at no rate is told', async () => {
  const { code, table, text } = await plan('100k', '--rate', '180', '--times', '10', '--p95', '8ms')
  assert.equal(code, 0)
  assert.match(text, /The objective \(p95 at most 8 ms, .*\) holds at no rate: without any queue the p95 is \S+ ms/)
  assert.doesNotMatch(table, /used up|times the ceiling/)
})

it('the date of the ceiling and the day to begin, or why they are not known', async () => {
  await put('peaks.json', days(70))
  const { text, table } = await plan('100k', '--peaks', 'peaks.json')
  assert.match(table, /^requests\/s .* measured$/m)
  assert.match(text, /The ceiling is reached on 20\d\d-\d\d-\d\d \(between \S+ and \S+\)\./)
  assert.match(text, /Begin with the next step (before|between \S+ and) \S+: it takes 30 to 60 days/)
  await put('few.json', days(9))
  assert.match((await plan('--peaks', 'few.json')).text, /not yet known: there are peaks of 9 days/)

  const event = dayText(today + 90)
  assert.match(
    (await plan('100k', '--peaks', 'peaks.json', '--event', event, '--times', '3')).text,
    new RegExp(`On ${event} \\S+ \\(\\S+ to \\S+\\) requests/s are expected, from the trend: carried in \\d+ %`),
  )
  assert.match(
    (await plan('--rate', '10', '--event', event)).text,
    /10 requests\/s are expected, from the rate of today/,
  )
})

it('wrong words are refused', async () => {
  await put('wrong.json', [{ day: '2026-02-30', peak: 1 }])
  for (const [words, message] of [
    [['--rate', 'fast'], /--rate must be a number/],
    [['--p95', '5'], /--p95 must be a time/],
    [['--failing', '5'], /--failing must be a percentage/],
    [['--times', '10'], /need the present rate/],
    [['--times', '10', '--session', '5m'], /need the present rate/],
    [['--rate', '1', '--event', '2020-01-01'], /--event must be a day after today/],
    [['--rate', '1', '--event', '2027-02-30'], /--event must be a day/],
    [['--peaks', 'none.json'], /does not exist/],
    [['--peaks', 'wrong.json'], /is not a list of days/],
    [['7k'], /is not a rung/],
  ] as const) {
    const { code, text } = await plan(...words)
    assert.deepEqual([code, /COMMAND_INVALID/.test(text), message.test(text)], [1, true, true], text)
  }
})

it('of a fleet that runs here it knows the rung and the CPU quota, unless they are given', async () => {
  const folder = fleetDir(path.join(dir, '.rung'))
  await mkdir(folder, { recursive: true })
  const owner = await claim(folder, 'the fleet')
  const state = { rung: '10k', app: '', mode: '', url: '', startedAt: 0, stopTimeoutMs: 0, cpuQuota: { cores: 0.3 } }
  await put('.rung/fleet/state.json', { ...state, parts: [] })
  try {
    const rates = ['--rate', '10', '--cores', '4']
    const has = ({ table }: { table: string }) => /^(?:web|app) +(\S+)/m.exec(table)?.[1]
    const told = await command(['plan', ...rates], {})
    assert.match(told.lines[0]!, /^rung 10k,/)
    assert.equal(has(told), '0.3')
    assert.equal(has(await plan(...rates)), '0.5')
    assert.equal(has(await command(['plan', '10k', ...rates], {})), '1')
    assert.equal((await command(['topology'], {})).lines[0], 'rung 10k, which runs here')
    assert.equal((await command(['topology', '1k'], {})).lines[0], 'rung 1k')
    // One whose quota is not in force has as many cores as the machine.
    await put('.rung/fleet/state.json', { ...state, cpuQuota: { cores: 0.3, problem: 'no' }, parts: [] })
    assert.equal(has(await command(['plan', ...rates], {})), '1')
  } finally {
    await owner.release()
    await rm(path.join(dir, '.rung/fleet'), { recursive: true })
  }
})
