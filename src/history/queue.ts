import { RungError } from '../kernel/errors.ts'
import {
  groupsOf,
  type Open,
  type Operation,
  obtain,
  timesOf,
  type Value,
  type Verdict,
  verdictOf,
} from './operation.ts'

type Time = (ms: number) => string

/**
 * Checks a queue for each of its groups of consumers.
 *
 * - Nothing is invented: what is delivered was published before, or may have been.
 * - Order: of two messages of one key, where the first was acknowledged before the second was sent, the first is handled first. A delivery that
 *   failed does not count; one with an unknown outcome may have happened as soon as it began.
 * - Nothing is lost: when the group has no more to do (`drain`), each acknowledged message was handled, or may have been.
 * - If the `drain` lists effects: one for each message that was handled, at most one for each that may have been, none for others. Where no
 *   delivery to the group is recorded, one for each that was acknowledged, at most one for each that may have been published.
 * @throws HISTORY_INVALID if a message is published twice
 */
export function checkQueue(operations: readonly Operation[]): Verdict {
  const verdict = verdictOf('queue')
  const time = timesOf(operations)
  const published = publishedOf(operations)
  const groups = groupsOf(operations, ({ kind, session }) =>
    kind === 'deliver' || kind === 'drain' ? session : undefined,
  )
  for (const [group, answers] of groups) {
    const handled = new Map<Value, Handled>()
    let drain: Operation | undefined
    for (const answer of answers) {
      if (answer.kind === 'drain') {
        if (answer.outcome === 'ok' && !(drain && drain.beganAt > answer.beganAt)) drain = answer
        continue
      }
      verdict.checked += 1
      const { value } = answer
      const message = published.get(value!)
      if (!message || message.outcome === 'fail' || message.beganAt > answer.endedAt)
        verdict.add({
          text: `${value} was delivered to ${group} at ${time(answer.beganAt)}, and ${whyNot(message, time)}.`,
          operations: [...(message ? [message] : []), answer],
        })
      else if (answer.outcome !== 'fail') note(handled, message, answer)
    }
    for (const ofKey of groupsOfKey(handled.values())) checkOrder(ofKey, group, verdict, time)
    const hasDeliveries = answers.some(({ kind }) => kind === 'deliver')
    if (drain) checkDrained(published, handled, hasDeliveries, drain, verdict, time)
  }
  return verdict
}

function publishedOf(operations: readonly Operation[]): ReadonlyMap<Value, Operation> {
  const published = new Map<Value, Operation>()
  for (const operation of operations) {
    if (operation.kind !== 'publish') continue
    const value = operation.value!
    if (published.has(value))
      throw new RungError(
        'HISTORY_INVALID',
        `The message ${value} is published twice, so nobody can tell which of them was delivered. Give each a value of its own.`,
      )
    published.set(value, operation)
  }
  return published
}

function whyNot(message: Operation | undefined, time: Time): string {
  if (!message) return 'nobody published it'
  return message.outcome === 'fail'
    ? `it was refused when it was published at ${time(message.beganAt)}`
    : `it was published only at ${time(message.beganAt)}`
}

/** A message that was handled in a group, or may have been. */
interface Handled {
  message: Operation
  /** It was not handled before. */
  first: Operation
  /** It was handled by then, for certain. */
  done: Operation | undefined
}

function note(handled: Map<Value, Handled>, message: Operation, delivery: Operation): void {
  const one = obtain<Value, Handled>(handled, message.value!, () => ({ message, first: delivery, done: undefined }))
  if (delivery.beganAt < one.first.beganAt) one.first = delivery
  if (delivery.outcome === 'ok' && !(one.done && one.done.endedAt <= delivery.endedAt)) one.done = delivery
}

function groupsOfKey(handled: Iterable<Handled>): Iterable<Handled[]> {
  const groups = new Map<string, Handled[]>()
  for (const one of handled) obtain(groups, one.message.key, (): Handled[] => []).push(one)
  return groups.values()
}

function checkOrder(ofKey: readonly Handled[], group: string, verdict: Open, time: Time): void {
  const firsts = ofKey.toSorted((a, b) => a.first.beganAt - b.first.beganAt)
  const dones = ofKey.filter(({ done }) => done).sort((a, b) => a.done!.endedAt - b.done!.endedAt)
  /** Of all that were handled before, the one that was sent last. */
  let latest: Handled | undefined
  let next = 0
  for (const { message, first } of firsts) {
    for (; next < dones.length && dones[next]!.done!.endedAt < first.beganAt; next += 1)
      if (!(latest && latest.message.beganAt >= dones[next]!.message.beganAt)) latest = dones[next]
    if (!latest || message.outcome !== 'ok' || !(message.endedAt < latest.message.beganAt)) continue
    verdict.add({
      text: `${group} got ${latest.message.value} at ${time(latest.done!.beganAt)}, before ${message.value} of the same key ${message.key} at ${time(first.beganAt)}, which was acknowledged at ${time(message.endedAt)}, before the other was published at ${time(latest.message.beganAt)}.`,
      operations: [message, latest.message, latest.done!, first],
    })
  }
}

function checkDrained(
  published: ReadonlyMap<Value, Operation>,
  handled: ReadonlyMap<Value, Handled>,
  hasDeliveries: boolean,
  drain: Operation,
  verdict: Open,
  time: Time,
): void {
  const { session: group, beganAt, endedAt, values } = drain
  const effects = values && countsOf(values)
  // Where nobody records deliveries, as from outside an app, the effects alone tell.
  const isSeen = hasDeliveries || effects === undefined
  for (const [value, message] of published) {
    const { first, done } = handled.get(value) ?? {}
    const isDue = message.outcome === 'ok' && message.endedAt < beganAt
    if (isDue && !isSeen) verdict.checked += 1
    const isDone = done !== undefined && done.endedAt < beganAt
    const count = effects?.get(value) ?? 0
    const wrong =
      isSeen && isDue && !(first && first.beganAt < endedAt)
        ? 'was never delivered to'
        : count > 1
          ? `has ${count} effects of`
          : effects && count === 0 && (isDone || isDue)
            ? 'has no effect of'
            : !isSeen && count > 0 && message.outcome === 'fail'
              ? 'was refused, and has an effect of'
              : undefined
    if (wrong)
      verdict.add({
        text: `${value}, published at ${time(message.beganAt)}${message.outcome === 'ok' ? ` and acknowledged at ${time(message.endedAt)}` : ''}, ${wrong} ${group}, which had no more to do at ${time(beganAt)}.`,
        operations: [message, ...(first ? [first] : []), ...(done && done !== first ? [done] : []), drain],
      })
  }
  for (const value of effects?.keys() ?? [])
    if (!(published.get(value) && (handled.has(value) || !isSeen)))
      verdict.add({
        text: `There is an effect of ${value} in ${group} at ${time(beganAt)}, which no delivery can have left.`,
        // Of this effect alone: without the other operations, each other one would be an anomaly too, and hide it.
        operations: [{ ...drain, values: [value] }],
      })
}

function countsOf(values: readonly Value[]): Map<Value, number> {
  const counts = new Map<Value, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return counts
}
