import type { CallHandlers, Send } from './calls.ts'
import { crossed } from './crossing.ts'

/**
 * Returns a `Send` whose handlers run in this process, in the scope of their caller.
 * @param checked whether errors are those that a caller in another process would get
 */
export function sendHere(handlers: CallHandlers, checked: boolean): Send {
  const run: Send = (name, input) => handlers[name]!(input as never)
  if (!checked) return run
  return async (name, input) => {
    try {
      return await run(name, input)
    } catch (error) {
      throw crossed(error)
    }
  }
}
