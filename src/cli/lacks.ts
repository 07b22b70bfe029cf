import { engines } from '../fleet/engines.ts'

/** `/readyz` itself waits 1 s for the database. */
const readyWithinMs = 2_000

/** An engine that a process of the app cannot use, as it says itself: it may run, and answer, without it. `undefined` where it lacks nothing. */
export async function lacksOf(address: string): Promise<string | undefined> {
  const answer = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(readyWithinMs) })
    .then((response) => response.json() as Promise<{ checks: Record<string, boolean | undefined> }>)
    .catch(() => undefined)
  const lacking = engines.toReversed().find(({ check }) => check !== undefined && answer?.checks[check] === false)
  return lacking && `cannot use ${lacking.product}; its log says why`
}
