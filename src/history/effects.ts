import { type Operation, obtain, placeOf, timesOf, type Value, type Verdict, verdictOf } from './operation.ts'

interface Sent {
  answered?: Operation
  unknown?: Operation
  any: Operation
}

/**
 * Checks that each Idempotency-Key has one effect and one answer. Requests are operations of kind `send`, as many for a key as were sent; their
 * value is the answer, or its hash. The last `effects` lists the key of each effect.
 *
 * A key that was answered has exactly one effect; one whose requests have unknown outcomes has one or none; one that was refused has none.
 */
export function checkEffects(operations: readonly Operation[]): Verdict {
  const verdict = verdictOf('one-effect')
  const time = timesOf(operations)
  const sent = new Map<string, Sent>()
  let last: Operation | undefined
  for (const operation of operations) {
    if (operation.kind === 'effects' && operation.outcome === 'ok' && !(last && last.beganAt > operation.beganAt))
      last = operation
    if (operation.kind !== 'send') continue
    const key = obtain<string, Sent>(sent, operation.key, () => ({ any: operation }))
    if (operation.outcome === 'info') key.unknown = operation
    if (operation.outcome !== 'ok') continue
    verdict.checked += 1
    if (key.answered && key.answered.value !== operation.value)
      verdict.add({
        text: `${operation.key} was answered with ${key.answered.value}${placeOf(key.answered, time)} and with ${operation.value}${placeOf(operation, time)}.`,
        operations: [key.answered, operation],
      })
    key.answered ??= operation
  }
  if (!last) return verdict
  const effects = new Map<Value, number>()
  for (const key of last.values ?? []) effects.set(key, (effects.get(key) ?? 0) + 1)
  for (const [key, { answered, unknown, any }] of sent) {
    const count = effects.get(key) ?? 0
    const by = answered ?? unknown ?? any
    const wrong =
      count > 1
        ? `has ${count} effects`
        : count === 0 && answered && answered.endedAt < last.beganAt
          ? 'was acknowledged and has no effect'
          : count === 1 && !answered && !unknown
            ? 'was refused and has an effect'
            : undefined
    if (wrong)
      verdict.add({
        text: `${key}, sent${placeOf(by, time)}, ${wrong} at ${time(last.beganAt)}.`,
        operations: [by, last],
      })
  }
  for (const key of effects.keys())
    if (!sent.has(String(key)))
      verdict.add({
        text: `There is an effect of ${key} at ${time(last.beganAt)}, which nobody sent.`,
        operations: [last],
      })
  return verdict
}
