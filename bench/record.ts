import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import conduit from '../examples/conduit/app.ts'
import { Figures } from '../src/observe/figures.ts'
import { metrics } from '../src/observe/metrics.ts'
import { recorderParts } from '../src/observe/record/keep.ts'
import { createRecorder, type Recorder } from '../src/observe/record/recorder.ts'
import { describeRecord, mergeOld } from '../src/observe/record/table.ts'
import type { Database } from '../src/primitives/data/contract.ts'
import { boot, type Extension } from '../src/runtime/boot.ts'
import { createLog } from '../src/runtime/log.ts'
import { readBindings } from '../src/topology/bindings.ts'
import type { Bench } from './run.ts'
import { sendRequests } from './support/load.ts'
import { seed } from './support/processes.ts'
import { machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { logIn, sceneOf, traceOf } from './support/scene.ts'

const targets = { mbOfYear: 50, coreShare: 0.01 }
/** An hour by the minute, and the rest of a day in steps of ten minutes: a frame has as many bytes however long its time is. */
const minutes = 60
const tens = 23 * 6
const requestsOfStep = 600
/** Asked once in each step, so that every frame has many routes and some answers that are errors. */
const others = [
  '/',
  '/login',
  '/register',
  '/article/none',
  '/profile/none',
  '/api/user',
  '/api/profiles/none',
  '/api/articles/none',
]
const minuteMs = 60_000
const dayMs = 1_440 * minuteMs

/** What a year of the record takes at 1k, and what recording a minute costs. The minutes are shorter here. */
const bench: Bench = {
  claim: 'a year of what one process measures takes at most 50 MB, and recording it 1 % of a core',
  async run({ data, json }) {
    const dir = path.resolve(data ?? (await mkdtemp(path.join(tmpdir(), 'rung-bench-'))), 'conduit')
    await seed(dir, 10_000)
    const scene = await sceneOf(dir)
    const clock = { time: Date.UTC(2026, 0, 1), now: () => clock.time, ticks: () => clock.time }
    let recorder!: Recorder
    let database!: Database
    const extension: Extension = (http, parts) => {
      const { primitives, bindings } = parts
      const figures = new Figures()
      metrics(http, parts.data, { ...primitives, role: bindings.role }, figures)
      database = primitives.stores.main.database
      recorder = createRecorder({ ...recorderParts(figures, http, parts, { servers: async () => [] }), clock })
    }
    const env = { RUNG_DATA: dir, PORT: '0', LOG_LEVEL: 'warn', RUNG_LIMITS: 'off', RUNG_SHEDDING: 'off' }
    const bindings = readBindings(env, process.cwd())
    const running = await boot(conduit, bindings, { log: createLog('conduit', 'warn'), extensions: [extension] })
    try {
      const { url } = running
      const requests = traceOf(scene, await logIn(url, scene.viewers))
      const cpuMs: number[] = []
      async function step(n: number, ms: number): Promise<void> {
        const first = (n * requestsOfStep) % requests.length
        const some = requests.slice(first, first + requestsOfStep)
        await sendRequests({ url, requests: some, count: requestsOfStep, connections: 8 })
        for (const path of others) await (await fetch(url + path)).text()
        const before = process.cpuUsage()
        clock.time += ms
        await recorder.record()
        const { user, system } = process.cpuUsage(before)
        cpuMs.push((user + system) / 1000)
        if (n % 20 === 0) progress(`step ${n} of ${minutes + tens}`)
      }
      const bytesOfFrame: Record<number, number> = {}
      async function look(seconds: number, frames: number): Promise<void> {
        const facts = await describeRecord(database)
        bytesOfFrame[seconds] = facts!.rows.find((one) => one.seconds === seconds)!.bytes / frames
      }
      for (let n = 0; n < minutes; n += 1) await step(n, minuteMs)
      await look(60, minutes)
      for (let n = 0; n < tens; n += 1) await step(minutes + n, 10 * minuteMs)
      await mergeOld(database, clock.time + 3 * dayMs)
      await look(600, minutes / 10 + tens)
      await mergeOld(database, clock.time + 16 * dayMs)
      await look(3_600, 24)
      // Of the row, its place in the index and the pieces of its content.
      const overhead = 150
      const rows = [
        { seconds: 60, frames: (2 * dayMs) / minuteMs, inRow: 1 },
        { seconds: 600, frames: (12 * dayMs) / (10 * minuteMs), inRow: 6 },
        { seconds: 3_600, frames: (351 * dayMs) / (60 * minuteMs), inRow: 24 },
      ].map((one) => ({ ...one, bytes: Math.round(bytesOfFrame[one.seconds]!) }))
      const mbOfYear =
        rows.reduce((sum, { frames, inRow, bytes }) => sum + frames * (bytes + overhead / inRow), 0) / 1e6
      const costMs = spread(cpuMs.slice(1))
      const coreShare = cpuMs.reduce((a, b) => a + b, 0) / cpuMs.length / minuteMs
      if (!json) {
        const cells = rows.map(({ seconds, frames, bytes }) => [`${seconds} s`, String(frames), String(bytes)])
        process.stdout.write(`\n${table([['resolution', 'frames a year', 'bytes a frame'], ...cells])}\n`)
        process.stdout.write(`a year: ${mbOfYear.toFixed(1)} MB\n`)
        process.stdout.write(`CPU for a minute: ${costMs.median.toFixed(1)} ms (at most ${costMs.most.toFixed(1)})`)
        process.stdout.write(`, on average ${(100 * coreShare).toFixed(3)} % of a core\n`)
      }
      const facts = machineFacts(scene.postgres)
      return { claim: bench.claim, facts, targets, rows, mbOfYear, cpuMs: rounded(costMs), coreShare }
    } finally {
      await running.stop()
      if (data === undefined) await rm(path.dirname(dir), { recursive: true, force: true })
    }
  },
}
export default bench
