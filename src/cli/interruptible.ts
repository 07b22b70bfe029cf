import { guardBy } from '../chaos/guard.ts'

/** The command line of `rung`, as this process was started. */
export const rungCommand: readonly string[] = [process.execPath, ...process.execArgv, process.argv[1]!]

/** Runs `body` so that signals end it early, and another `rung chaos` undoes what it leaves if it is killed. */
export async function interruptible<T>(dataDir: string, body: (over: AbortSignal) => Promise<T>): Promise<T> {
  const over = new AbortController()
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const end = () => over.abort()
  for (const signal of signals) process.on(signal, end)
  // Any "rung chaos" undoes what is left; "clear" would end others that run.
  const callOff = guardBy([...rungCommand, 'chaos', 'list', '--data', dataDir])
  try {
    return await body(over.signal)
  } finally {
    callOff()
    for (const signal of signals) process.off(signal, end)
  }
}
