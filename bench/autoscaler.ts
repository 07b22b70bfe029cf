import { fileURLToPath } from 'node:url'
import { cpuTimes, cpuUsedMs } from '../src/engines/process/cpu.ts'
import { webPolicy } from '../src/fleet/autoscaler.ts'
import { askFleet } from '../src/fleet/control.ts'
import { runningFleet } from '../src/fleet/state.ts'
import { runLoadInThreads } from '../src/load.ts'
import { openScratch, until } from '../test/support/process.ts'
import { autoscaler, loads, type Outcome, plainRule, reversalsWithin, simulate } from '../test/support/scaling.ts'
import type { Bench } from './run.ts'
import { plot } from './support/plot.ts'
import { machineFacts, progress, table } from './support/report.ts'

const bounds = { least: 1, most: 20 }
const shapes = {
  step: { load: loads.step(55, 550, 60), seconds: 600 },
  sawtooth: { load: loads.sawtooth(50, 600, 120), seconds: 1_800 },
  day: { load: loads.diurnal(50, 800, 3_600), seconds: 7_200 },
}
const missing = { 'no figures for 10 min': (second: number) => second > 1_800 && second < 2_400 }
const startsMs = [350, 60_000, 180_000]

/** Of the run on this machine: cores of each process, and requests per second. */
const real = { cpu: 0.15, before: 35, after: 350, beforeS: 30, seconds: 120, least: 2, most: 8 }
const objectiveMs = 500
const app = fileURLToPath(new URL('../test/support/apps/orders/app.ts', import.meta.url))
const imageOf = (name: string) => fileURLToPath(new URL(`../docs/images/${name}.svg`, import.meta.url))

/** The autoscaler beside the rule "CPU > 60 %": simulated on a virtual clock, then with real processes under CPU quotas. */
const bench: Bench = {
  claim:
    'a tenfold step is outside the objective for at most 5 s, and a sawtooth turns the number of processes at most twice in 5 minutes',
  async run({ json }) {
    const rows = startsMs.flatMap((startMs) => [
      ...Object.entries(shapes).map(([name, shape]) => row(name, startMs, shape, 0)),
      row(Object.keys(missing)[0]!, startMs, shapes.day, Object.values(missing)[0]!),
    ])
    if (!json) {
      const cells = rows.map(({ shape, startS, own, plain }) => [
        ...[`${shape}, start ${startS} s`, own, plain].flatMap((cell) =>
          typeof cell === 'string'
            ? [cell]
            : [String(cell.secondsOutside), String(cell.reversalsIn5Min), String(cell.processSeconds)],
        ),
      ])
      const heads = ['', 's outside', 'turns', 'process-s', 's outside', 'turns', 'process-s']
      process.stdout.write(
        `Simulated: the autoscaler (left), CPU > 60 % (right); turns in any 5 minutes\n${table([heads, ...cells])}\n`,
      )
    }
    const { load, seconds } = shapes.sawtooth
    const saw = { load, seconds: seconds / 2, startMs: 350, first: 2 }
    const drawn = [
      simulate({ ...saw, scaler: autoscaler({ ...webPolicy, ...bounds }) }),
      simulate({ ...saw, scaler: plainRule(bounds) }),
    ]
    await plot(
      imageOf('scaling-sawtooth'),
      panelsOf(
        'Sawtooth, simulated',
        drawn[0]!.load,
        drawn.map(({ processes }) => processes),
        drawn.map(({ p95Ms }) => p95Ms),
      ),
    )

    const runs = await realRuns(json)
    return {
      claim: bench.claim,
      facts: machineFacts('18'),
      objectiveMs,
      simulated: rows,
      real: { ...real, ...runs },
    }
  },
}
export default bench

/** A step with real processes. */
async function realRuns(json: boolean) {
  const runs = { own: await realRun(true, json), plain: await realRun(false, json) }
  if (!json) {
    const heads = ['a tenfold step on this machine', 's outside', 'failed', 'new process after', 'process-s']
    const cells = Object.entries(runs).map(([name, run]) => [
      name === 'own' ? 'autoscaler' : 'CPU > 60 %',
      String(run.secondsOutside),
      String(run.failed),
      run.secondsToFirst === undefined ? 'never' : `${run.secondsToFirst} s`,
      String(run.processes.reduce((sum, count) => sum + count, 0)),
    ])
    process.stdout.write(`\n${table([heads, ...cells])}\n`)
  }
  await plot(
    imageOf('scaling-step'),
    panelsOf(
      'A tenfold step, real',
      runs.own.arrived,
      [runs.own.processes, runs.plain.processes],
      [runs.own.p95Ms, runs.plain.p95Ms],
    ),
  )
  return runs
}

function row(
  name: string,
  startMs: number,
  { load, seconds }: { load: (second: number) => number; seconds: number },
  gap: 0 | ((second: number) => boolean),
) {
  const options = { load, seconds, startMs, first: 2, missing: gap }
  const figures = ({ secondsOutside, reversals, cost }: Outcome) => ({
    ...{ secondsOutside, reversalsIn5Min: reversalsWithin(reversals, 300), processSeconds: cost },
  })
  return {
    ...{ shape: name, startS: startMs / 1000 },
    own: figures(simulate({ ...options, scaler: autoscaler({ ...webPolicy, ...bounds }) })),
    plain: figures(simulate({ ...options, scaler: plainRule(bounds) })),
  }
}

function panelsOf(title: string, arrived: number[], processes: number[][], p95Ms: number[][]) {
  const colors = ['#1a6fd4', '#c2501a']
  const both = (values: number[][]) =>
    ['autoscaler', 'CPU > 60 %'].map((name, at) => ({
      name,
      values: values[at]!,
      color: colors[at]!,
      dashed: at === 1,
    }))
  return [
    { title, unit: 'requests/s', lines: [{ name: '', values: arrived, color: '#444' }] },
    { title: 'Web processes', unit: 'number', lines: both(processes) },
    {
      title: '95th percentile',
      unit: 'ms',
      lines: both(p95Ms.map((values) => values.map((ms) => Math.min(ms, 4_000)))),
    },
  ]
}

interface RealRun {
  secondsOutside: number
  failed: number
  /** From the step until the first new process answers. */
  secondsToFirst: number | undefined
  arrived: number[]
  processes: number[]
  p95Ms: number[]
}

async function realRun(isOwn: boolean, json: boolean): Promise<RealRun> {
  if (!json) progress(`a step with ${isOwn ? 'the autoscaler' : 'the plain rule'}`)
  const { least, most, cpu, beforeS, seconds } = real
  const scratch = await openScratch()
  try {
    const env = { RUNG_NODE_CPU: String(cpu), RUNG_LIMITS: 'off', RUNG_EDGE: 'off' }
    const args = ['--web', isOwn ? `${least}..${most}` : String(least), '--worker', '1', '--replicas', '0']
    const { url } = await scratch.launch({ up: '100k', app, args, env }).started
    const { dataDir } = scratch
    // It has begun to look, and the processes have compiled what they run.
    await until(
      async () => !isOwn || (await runningFleet(dataDir))?.scaling?.web?.reason.includes('enough'),
      'it looks',
    )
    const over = new AbortController()
    const processes: number[] = []
    const watching = everySecond(over.signal, async () => {
      processes.push(await readyWebs(dataDir))
    })
    const ruling = isOwn ? Promise.resolve() : applyPlainRule(dataDir, over.signal)
    const { routes } = await runLoadInThreads(new URL('./support/step-load.ts', import.meta.url), { url, ...real })
    over.abort()
    await Promise.all([watching, ruling])
    const perSecond = Array.from({ length: seconds }, (_, second) => routes.get(String(second)))
    const failures = perSecond.map((one) => Object.values(one?.failures ?? {}).reduce((sum, count) => sum + count, 0))
    const p95Ms = perSecond.map((one) => Math.round(one?.latency.at(0.95) ?? 0))
    const grownAt = processes.findIndex((count, second) => second >= beforeS && count > processes[beforeS - 1]!)
    return {
      secondsOutside: p95Ms.filter((ms, second) => ms > objectiveMs || failures[second]! > 0).length,
      failed: failures.reduce((sum, count) => sum + count, 0),
      secondsToFirst: grownAt === -1 ? undefined : grownAt - beforeS,
      arrived: perSecond.map((one) => one?.latency.count ?? 0),
      processes: processes.slice(0, seconds),
      p95Ms,
    }
  } finally {
    await scratch.end()
  }
}

async function readyWebs(dataDir: string): Promise<number> {
  return webs(await runningFleet(dataDir)).length
}

function webs(fleet: Awaited<ReturnType<typeof runningFleet>>) {
  return (fleet?.parts ?? []).filter(({ name, state }) => name.startsWith('web-') && state === 'running')
}

async function everySecond(signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
  const began = performance.now()
  for (let second = 1; !signal.aborted; second++) {
    await work()
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + second * 1_000 - performance.now())))
  }
}

/** Every 15 s one more above 60 % of the quota, one fewer below 40 %. */
async function applyPlainRule(dataDir: string, signal: AbortSignal): Promise<void> {
  let second = 0
  let before = cpuTimes()
  await everySecond(signal, async () => {
    second += 1
    if (second % 15 !== 0) return
    const now = cpuTimes()
    const parts = webs(await runningFleet(dataDir))
    const used = parts.map(({ pid }) => cpuUsedMs(pid!, before, now) / 15_000 / real.cpu)
    const mean = used.reduce((sum, one) => sum + one, 0) / used.length
    before = now
    const wanted = parts.length + (mean > 0.6 ? 1 : mean < 0.4 ? -1 : 0)
    const web = Math.min(real.most, Math.max(real.least, wanted))
    if (web !== parts.length) void askFleet(dataDir, { command: 'scale', web }, () => {}).catch(() => {})
  })
}
