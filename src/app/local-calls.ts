import { type AnyCalls, type CallHandlers, type CallRules, type CallsOf, callsBy, type Send } from './calls.ts'
import { crossed } from './crossing.ts'

/** Returns calls whose handlers run in this process, in the scope of their caller. */
export function localCalls<C extends AnyCalls>(contract: C, handlers: CallHandlers<C>, rules: CallRules): CallsOf<C> {
  const run: Send = (name, input) => (handlers as CallHandlers)[name]!(input as never)
  if (!rules.checked) return callsBy(contract, run, rules)
  return callsBy(
    contract,
    async (name, input) => {
      try {
        return await run(name, input)
      } catch (error) {
        throw crossed(error)
      }
    },
    rules,
  )
}
