import { fstatSync } from 'node:fs'
import { sleep } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import type { Input } from './command.ts'

/**
 * Listens for signals from now on, and for the end of the reader of standard output. The returned function waits for the first
 * of them, drains and stops what runs, and resolves with the exit code. A second signal ends the process at once.
 */
export function stopOnSignal({ out }: Pick<Input, 'out'>): (running: { stop(): Promise<unknown> }) => Promise<number> {
  const asked = Promise.withResolvers<void>()
  let stopping = false
  function onSignal(signal: NodeJS.Signals): void {
    if (stopping) {
      out.note(`${signal} again: ending at once. The next start recovers.`)
      process.exit(1)
    }
    stopBecause(`${signal}: `)
  }
  function stopBecause(reason: string): void {
    if (stopping) return
    stopping = true
    out.note(`\n${reason}finishing what is in hand …`)
    asked.resolve()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  // Started by `rung dev`: when that has ended, in whatever way, nothing else would stop this process.
  process.once('disconnect', () => onSignal('SIGTERM'))
  process.channel?.unref() // listening for that end keeps no process alive
  whenUnread(() => stopBecause('Nobody reads the output any more: '))
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

/** The reader of a pipe has ended (`rung start | head -3`), or the terminal is gone: known once something is written. */
function whenUnread(fn: () => void): void {
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE' || code === 'EIO') fn()
  })
}

/** Long enough for `head` to end after its last line. */
const readerEndsMs = 300

/**
 * Prints the last line of a start. After it an app may be silent for hours, and only a write notices that a pipe has no reader:
 * into a pipe it is written a moment later than the lines before it.
 */
export async function lastLine(out: Input['out'], text: string): Promise<void> {
  if (isPipe(1)) await sleep(readerEndsMs)
  out.line(text)
}

function isPipe(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isFIFO()
  } catch {
    return false // the parent process has closed it
  }
}
