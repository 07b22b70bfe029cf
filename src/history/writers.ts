import { afterNewest } from './leases.ts'
import { type Operation, placeOf, timesOf, type Verdict, verdictOf } from './operation.ts'

/**
 * Checks that a database has one primary at a time, also when it fails over. Writes, and reads of the primary, say under which `token` (epoch,
 * timeline, term) and on which `node` they were answered.
 *
 * - All writes that are acknowledged under one token are so by one node.
 * - Once anybody was answered under a newer token, no write that begins later is acknowledged under an older one.
 *
 * A write that began before may be acknowledged meanwhile: whether it is lost is the matter of `checkLostWrites`.
 */
export function checkWriters(operations: readonly Operation[]): Verdict {
  const verdict = verdictOf('single-writer')
  const time = timesOf(operations)
  const answers = operations.filter(
    ({ kind, outcome, token }) => token !== undefined && outcome === 'ok' && (kind === 'write' || kind === 'read'),
  )
  const primaries = new Map<number, Operation>()
  for (const write of answers) {
    if (write.kind !== 'write') continue
    verdict.checked += 1
    const other = primaries.get(write.token!)
    if (!other) primaries.set(write.token!, write)
    else if (other.node !== write.node)
      verdict.add({
        text: `Writes of epoch ${write.token} were acknowledged${placeOf(other, time)} and${placeOf(write, time)}: two primaries of one epoch.`,
        operations: [other, write],
      })
  }
  for (const [write, newest] of afterNewest(answers, ({ endedAt }) => endedAt)) {
    if (write.kind !== 'write' || write.token! >= newest.token!) continue
    verdict.add({
      text: `Session ${write.session} got a write of ${write.key} acknowledged${placeOf(write, time)} in epoch ${write.token}, although epoch ${newest.token} had begun by ${time(newest.endedAt)}, when ${newest.node ?? 'a server'} answered session ${newest.session} in it.`,
      operations: [newest, write],
    })
  }
  return verdict
}
