import { short } from '../load/report.ts'
import type { FaultFinding } from './faults.ts'
import { type Findings, inSeconds } from './findings.ts'

/** What a proof has found as rows for people, on a terminal or a page. */
export interface Rows {
  heads: readonly string[]
  rows: readonly (readonly string[])[]
}

export function promiseRows({ promises }: Pick<Findings, 'promises'>): Rows {
  return {
    heads: ['promise', 'checked', 'found', 'max', ''],
    rows: promises.map(({ promise, checked, figure, target, held }) => {
      return [promise, checked, figure, target, held ? 'held' : 'NOT HELD']
    }),
  }
}

export function faultRows({ faults }: Pick<Findings, 'faults'>): Rows {
  return {
    heads: ['at', 'faults', 'reads', 'writes', 'failed', 'whole', ''],
    rows: faults.map((one) => [
      inSeconds(one.from),
      one.faults
        .map(({ fault, part, error }) => `${fault} ${part}${error === undefined ? '' : ' (in vain)'}`)
        .join(', '),
      ...[inSeconds(one.readsSilentMs), inSeconds(one.writesSilentMs), `${short(100 * one.failing)} %`],
      ...[one.wholeAfterMs === null ? 'no' : inSeconds(one.wholeAfterMs), one.effect],
    ]),
  }
}

/** What the columns of `faultRows` say. */
export const faultWords =
  'reads, writes: the longest time without a success; failed: of all operations meanwhile; whole: until all parts ran again.'

/** Why faults took no effect: `freeze web-1: web-1 does not run`. */
export function inVain(faults: readonly FaultFinding[]): string[] {
  const all = faults.flatMap((one) => one.faults)
  return all.flatMap(({ fault, part, error }) => (error === undefined ? [] : [`${fault} ${part}: ${error}`]))
}

/** Faults by kinds of parts. */
export function matrixRows({ matrix }: Pick<Findings, 'matrix'>): Rows {
  const kinds = [...new Set(Object.values(matrix).flatMap((row) => Object.keys(row)))].sort()
  return {
    heads: ['', ...kinds],
    rows: Object.entries(matrix).map(([fault, row]) => [fault, ...kinds.map((kind) => row[kind] ?? '')]),
  }
}
