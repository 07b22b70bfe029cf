import { messageOf } from '../kernel/errors.ts'
import type { Input } from './command.ts'

/**
 * Listens for signals from now on. What it returns waits for the first one, drains and stops what runs, and gives the
 * exit code. A second signal ends at once.
 */
export function stopOnSignal({ out }: Pick<Input, 'out'>): (running: { stop(): Promise<unknown> }) => Promise<number> {
  const asked = Promise.withResolvers<void>()
  let stopping = false
  function onSignal(signal: NodeJS.Signals): void {
    if (stopping) {
      out.note(`${signal} again: ending at once. The next start recovers.`)
      process.exit(1)
    }
    stopping = true
    out.note(`\n${signal}: finishing what is in hand …`)
    asked.resolve()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  // Started by `rung dev`: when that is gone, however it ended, nobody is left to stop this process.
  process.once('disconnect', () => onSignal('SIGTERM'))
  process.channel?.unref() // listening for that end keeps no process alive
  return async (running) => {
    await asked.promise
    try {
      await running.stop()
      out.note('stopped')
      return 0
    } catch (error) {
      out.note(`stopped with an error: ${messageOf(error)}`)
      return 1
    }
  }
}
