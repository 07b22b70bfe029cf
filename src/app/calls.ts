import type { Static, TSchema } from 'typebox'
import { RungError } from '../kernel/errors.ts'
import { jsonCheck } from '../kernel/schema.ts'
import type { ReadOnly } from '../primitives/http/route-types.ts'

/**
 * What a module exposes to others. In process now, over the wire once the module runs on nodes of its own: so arguments
 * and results have schemas and are plain JSON, and a call is never part of the caller's transaction.
 */
export interface Call<Input extends TSchema = TSchema, Output extends TSchema = TSchema> {
  readonly input: Input
  readonly output: Output
  run(input: Static<Input>): Result<Output>
}

/** It is only read: a value of the cache, which is frozen, will do. */
type Result<Output extends TSchema> = PromiseLike<ReadOnly<Static<Output>>> | ReadOnly<Static<Output>>

export function call<Input extends TSchema, Output extends TSchema>(
  input: Input,
  output: Output,
  run: (input: Static<Input>) => Result<Output>,
): Call<Input, Output> {
  return { input, output, run }
}

// biome-ignore lint/suspicious/noExplicitAny: a record of calls of any schemas; each keeps its own types
export type Calls = Record<string, Call<any, any>>

/** The same calls as the caller sees them. */
export type CallsFor<C extends Calls> = {
  readonly [Name in keyof C]: C[Name] extends Call<infer Input, infer Output>
    ? (input: Static<Input>) => Promise<Static<Output>>
    : never
}

export interface CallRules {
  /** Check both sides against their schemas and pass copies, as the wire would: development and tests. */
  checked: boolean
  inTransaction(): boolean
}

/** Calls that run in this process. */
export function localCalls<C extends Calls>(module: string, calls: C, rules: CallRules): CallsFor<C> {
  const entries = Object.entries(calls).map(([name, definition]) => [
    name,
    localCall(`${module}.${name}`, definition, rules),
  ])
  return Object.fromEntries(entries)
}

function localCall(name: string, definition: Call, rules: CallRules): (input: unknown) => Promise<unknown> {
  const asJson = rules.checked
    ? {
        input: jsonCheck(definition.input, 'CALL_INVALID', `The input of ${name}`),
        output: jsonCheck(definition.output, 'CALL_INVALID', `The output of ${name}`),
      }
    : undefined
  return async (input) => {
    if (rules.inTransaction()) {
      throw new RungError(
        'CALL_IN_TRANSACTION',
        `${name} was called inside data.write. It would not be part of the transaction; call it before or after.`,
      )
    }
    if (!asJson) return definition.run(input)
    return asJson.output(await definition.run(asJson.input(input).value)).value
  }
}
