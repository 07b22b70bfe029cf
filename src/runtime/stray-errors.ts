import { channel } from 'node:diagnostics_channel'
import { errorOf, messageOf, RungError } from '../kernel/errors.ts'
import type { Log } from './log.ts'

/** Something was thrown where nobody waited for it: a `RungError` with it as its cause. */
export const strayError = channel('rung:stray-error')

/**
 * What the app's code throws where nobody waits for it (a promise that is not awaited, a timer, a listener) is logged, and the
 * process goes on: the fault of one request must not end those of all others.
 * @returns what ends this
 */
export function outliveStrayErrors(log: Log): () => void {
  const told = (where: string) => (thrown: unknown) => {
    const err = new RungError(
      'APP_ERROR_STRAY',
      `${where} failed and nobody had waited for it: ${messageOf(thrown)}. Await it, or catch its error.`,
      { cause: errorOf(thrown) },
    )
    log.error({ event: 'stray-error', err }, err.message)
    if (strayError.hasSubscribers) strayError.publish(err)
  }
  const onRejection = told('A promise')
  const onException = told('A timer or a listener')
  process.on('unhandledRejection', onRejection)
  process.on('uncaughtException', onException)
  return () => {
    process.off('unhandledRejection', onRejection)
    process.off('uncaughtException', onException)
  }
}
