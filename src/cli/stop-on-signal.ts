import { messageOf } from '../kernel/errors.ts'
import type { Input } from './command.ts'

/**
 * Listens from now on for signals, and for the end of whatever reads standard output. The returned function waits for the first
 * of them, stops what runs, and resolves with the exit code. A second signal ends the process at once.
 */
export function stopOnSignal({ out }: Pick<Input, 'out'>): (running: { stop(): Promise<unknown> }) => Promise<number> {
  const asked = Promise.withResolvers<void>()
  let stopping = false
  function onSignal(signal: NodeJS.Signals): void {
    if (stopping) {
      out.note(`${signal} again: ending at once. The next start recovers.`)
      process.exit(1)
    }
    stopBecause(signal)
  }
  function stopBecause(reason: string): void {
    if (stopping) return
    stopping = true
    out.note(`\n${reason}: finishing requests and jobs …`)
    asked.resolve()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  // A process of `rung dev` stops with it, however that ends.
  process.once('disconnect', () => onSignal('SIGTERM'))
  process.channel?.unref()
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE' || code === 'EIO') stopBecause('The output is no longer read')
  })
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
