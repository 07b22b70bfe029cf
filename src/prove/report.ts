import { writeFile } from 'node:fs/promises'
import { htmlReport, short } from '../load/report.ts'
import type { Summary } from '../load/summary.ts'
import { type Findings, inSeconds, kindsIn } from './findings.ts'

export interface ProofView extends Findings {
  rung: string
  seed: number
  minutes: number
  again: string
  load: Summary
}

/** Writes a page that stands for itself: verdicts, a timeline with faults as bands, what each fault did, the matrix. */
export async function writeProofReport(file: string, view: ProofView): Promise<void> {
  const { rung, seed, minutes, again, load, promises, faults, matrix, anomalies, operations, held } = view
  const { timeline } = load
  const x = timeline.map(({ at }) => at)
  // Bands are narrow: a number is all that there is room for.
  const bands = faults.map(({ from, to }, index) => ({ name: String(index + 1), from: from / 1_000, to: to / 1_000 }))
  const line = (name: string, of: (one: (typeof timeline)[number]) => number) => ({
    name,
    values: timeline.map((one) => (Number.isFinite(of(one)) ? of(one) : null)),
  })
  const kinds = kindsIn(matrix)
  const longest = (of: 'readsSilentMs' | 'writesSilentMs') => inSeconds(Math.max(0, ...faults.map((one) => one[of])))
  const page = await htmlReport({
    title: `Proof of rung ${rung}: ${held ? 'all promises were held' : 'not all promises were held'}`,
    lines: [
      `${new Date(performance.timeOrigin).toISOString().slice(0, 16).replace('T', ' ')} UTC, ${short(minutes)} minutes, seed ${seed}`,
      `The same again: ${again}`,
    ],
    figures: [
      { name: 'operations', value: operations.toLocaleString('en') },
      { name: 'rounds of faults', value: String(faults.length) },
      { name: 'longest without a read', value: longest('readsSilentMs') },
      { name: 'longest without a write', value: longest('writesSilentMs') },
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
      {
        title: 'Promises',
        bad: ['NOT HELD'],
        heads: ['', 'checked', 'found', 'at most', ''],
        rows: promises.map((one) => [
          one.promise,
          one.checked,
          one.figure,
          one.target,
          one.held === false ? 'NOT HELD' : 'held',
        ]),
      },
      ...(anomalies.length === 0
        ? []
        : [
            {
              title: 'What was not held',
              heads: ['', 'what was seen'],
              rows: anomalies.map(({ checker, text, steps }) => [checker, [text, ...steps].join(' — ')]),
            },
          ]),
      {
        title: 'Faults, by the numbers in the charts',
        bad: ['error'],
        heads: ['', 'at', 'until all parts ran', 'without a read', 'without a write', 'failed', ''],
        rows: faults.map((one, index) => [
          `${index + 1}: ${one.faults
            .map(({ fault, part, error }) => `${fault} ${part}${error === undefined ? '' : `: ${error}`}`)
            .join(', ')}`,
          ...[
            inSeconds(one.from),
            inSeconds(one.to - one.from),
            inSeconds(one.readsSilentMs),
            inSeconds(one.writesSilentMs),
          ],
          ...[`${short(100 * one.failing)} %`, one.effect],
        ]),
      },
      {
        title: 'Fault by part',
        bad: ['error'],
        heads: ['', ...kinds],
        rows: Object.entries(matrix).map(([fault, row]) => [fault, ...kinds.map((kind) => row[kind] ?? '')]),
      },
    ],
  })
  await writeFile(file, page)
}
