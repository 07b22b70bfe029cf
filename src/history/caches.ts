import { groupsOf, type Operation, timesOf, type Verdict, verdictOf } from './operation.ts'
import { isOlder, proofOf, registersOf } from './registers.ts'
import { nameOf, readsOf } from './sessions.ts'

/**
 * Checks that no cache puts back what it has already replaced: a stale set, where a load that began before a write stores its value after it.
 *
 * No client sees when a cache loads or stores. What a history shows is the answers of each node, so the node is checked as if it were one
 * session: once a write was acknowledged on it, which removes what the cache had, or a `cached` read of anybody has shown a newer value there, no
 * `cached` read on the same node that begins later shows the older one. Another node may be late, within the `staleMsMax` of its reads, which
 * `checkStaleness` checks; and a session's own writes are the matter of `checkSessions`.
 * @throws HISTORY_INVALID if a value is written to a key twice
 */
export function checkCaches(operations: readonly Operation[], registers = registersOf(operations)): Verdict {
  const verdict = verdictOf('no-stale-set')
  const time = timesOf(operations)
  const nodes = groupsOf(operations, ({ kind, outcome, node, cached }) =>
    outcome === 'ok' && (kind === 'write' || (kind === 'read' && cached)) ? node : undefined,
  )
  for (const [node, answers] of nodes) {
    for (const [read, seen, floors] of readsOf(answers, registers)) {
      verdict.checked += 1
      const floor = [...(floors?.written ?? []), ...(floors?.read ?? [])].find((one) => isOlder(seen, one.seen))
      if (!floor) continue
      const did = floor.by.kind === 'write' ? 'acknowledged' : 'shown'
      verdict.add({
        text: `The cache of ${node} showed ${nameOf(seen)} of ${read.key} to session ${read.session} at ${time(read.beganAt)}, although ${node} had ${did} ${nameOf(floor.seen)}, which is newer, by ${time(floor.by.endedAt)}.`,
        operations: proofOf(seen, floor.seen, floor.by, read),
      })
    }
  }
  return verdict
}
