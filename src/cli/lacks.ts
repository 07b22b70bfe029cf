/** `/readyz` itself waits 1 s for the database. */
const readyWithinMs = 2_000

/** A process of the app may run, and serve, without an engine that it needs; it says so itself. `undefined` where it lacks nothing. */
export async function lacksOf(address: string): Promise<string | undefined> {
  const asked = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(readyWithinMs) })
    .then((answer) => answer.json() as Promise<{ checks: { database?: boolean; redis?: boolean } }>)
    .catch(() => undefined)
  const lacks = asked && (asked.checks.database === false ? 'Postgres' : asked.checks.redis === false && 'Redis')
  return lacks ? `cannot use ${lacks}; its log says why` : undefined
}
