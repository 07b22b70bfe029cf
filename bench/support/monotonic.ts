/** The system's monotonic clock, ms: the same for all processes of a machine, which `performance.timeOrigin` is not. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
