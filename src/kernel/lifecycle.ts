/**
 * Start and stop are one contract: parts start in order and stop in reverse; stopping before the start, twice, or while
 * the start is still running is legal and ends in the stopped state; a start that fails stops what it had started.
 */
export interface Part {
  readonly name: string
  start(signal: AbortSignal): Promise<void>
  stop(): Promise<void>
}

export interface Lifecycle {
  start(): Promise<void>
  stop(): Promise<void>
}

export function lifecycle(parts: readonly Part[]): Lifecycle {
  const abort = new AbortController()
  const started: Part[] = []
  let starting: Promise<void> | undefined
  let stopping: Promise<void> | undefined

  async function startAll(): Promise<void> {
    for (const part of parts) {
      abort.signal.throwIfAborted()
      // Pushed first: a part whose start fails half-way still gets its stop.
      started.push(part)
      await part.start(abort.signal)
    }
  }

  async function stopAll(): Promise<void> {
    abort.abort(new Error('stopped'))
    await starting?.catch(() => {})
    const failures: unknown[] = []
    for (const part of started.reverse()) {
      await part.stop().catch((error) => failures.push(error))
    }
    if (failures.length === 1) throw failures[0]
    if (failures.length > 1) throw new AggregateError(failures, 'several parts failed to stop')
  }

  function stop(): Promise<void> {
    stopping ??= stopAll()
    return stopping
  }

  return {
    start() {
      starting ??= startAll().catch(async (error) => {
        for (const part of started.splice(0).reverse()) await part.stop().catch(() => {})
        throw error
      })
      return starting
    },
    stop,
  }
}
