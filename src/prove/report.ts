import { writeFile } from 'node:fs/promises'
import { htmlReport, short } from '../load/report.ts'
import type { Summary } from '../load/summary.ts'
import type { Findings } from './findings.ts'
import { faultRows, faultWords, inVain, matrixRows, promiseRows } from './tables.ts'

export interface ProofView extends Findings {
  rung: string
  seed: number
  minutes: number
  /** Repeats it. */
  command: string
  load: Summary
}

/** Writes a page that stands for itself: verdicts, a timeline with faults as bands, what each fault did, the matrix. */
export async function writeProofReport(file: string, view: ProofView): Promise<void> {
  const { rung, seed, minutes, command, load, faults, anomalies, operations, held } = view
  const { timeline } = load
  const x = timeline.map(({ at }) => at)
  // Bands are narrow: a number is all that there is room for.
  const bands = faults.map(({ from, to }, index) => ({ name: String(index + 1), from: from / 1_000, to: to / 1_000 }))
  const line = (name: string, of: (one: (typeof timeline)[number]) => number) => ({
    name,
    values: timeline.map((one) => (Number.isFinite(of(one)) ? of(one) : null)),
  })
  const struck = faultRows(view)
  const page = await htmlReport({
    title: `Proof of rung ${rung}: ${held ? 'all promises were held' : 'not all promises were held'}`,
    lines: [
      `${new Date(performance.timeOrigin).toISOString().slice(0, 16).replace('T', ' ')} UTC, ${short(minutes)} minutes, seed ${seed}`,
      `To repeat it: ${command}`,
    ],
    figures: [
      { name: 'operations', value: operations.toLocaleString('en') },
      { name: 'rounds of faults', value: String(faults.length) },
      { name: 'failed', value: `${short(100 * load.all.failing)} %`, note: 'of all requests' },
    ],
    charts: [
      {
        ...{ title: 'Answers', unitX: 's', unitY: 'per s', x, bands },
        lines: [line('answers', (one) => one.rate), line('failures', (one) => one.failures)],
      },
      {
        ...{ title: 'Latency', unitX: 's', unitY: 'ms', x, bands },
        lines: [line('p50', (one) => one.p50), line('p95', (one) => one.p95)],
      },
    ],
    tables: [
      { title: 'Promises', bad: ['NOT HELD'], ...promiseRows(view) },
      {
        title: 'What was not held',
        heads: ['', 'what was seen'],
        rows: anomalies.map(({ checker, text, steps }) => [checker, [text, ...steps].join(' — ')]),
      },
      {
        title: `Faults, by the numbers in the charts (${faultWords})`,
        bad: ['error'],
        heads: struck.heads,
        rows: struck.rows.map(([at, ...cells], index) => [`${index + 1}: at ${at}`, ...cells]),
      },
      { title: 'Faults that took no effect', heads: [''], rows: inVain(faults).map((text) => [text]) },
      { title: 'Fault by part', bad: ['error'], ...matrixRows(view) },
    ].filter(({ rows }) => rows.length > 0),
  })
  await writeFile(file, page)
}
