import type { Static, TSchema } from 'typebox'
import { RungError } from '../kernel/errors.ts'
import { jsonCheck } from '../kernel/schema.ts'
import type { ReadOnly } from '../primitives/http/route-types.ts'

export interface CallSchema {
  readonly input: TSchema
  readonly output: TSchema
}

export type CallSchemas = Readonly<Record<string, CallSchema>>

/**
 * The calls of a module without their implementation. Callers import only this, so the module may run in this process or on nodes of its
 * own. Arguments and results are plain JSON with schemas, and a call is never part of the caller's transaction.
 */
export interface CallsContract<S extends CallSchemas = CallSchemas> {
  readonly module: string
  readonly schemas: S
}

/**
 * Declares the calls of a module.
 *
 * @example
 * export const accountsCalls = defineCalls('accounts', {
 *   names: { input: Type.Object({ ids: Type.Array(Type.Integer()) }), output: Type.Array(Type.String()) },
 * })
 */
export function defineCalls<S extends CallSchemas>(module: string, schemas: S): CallsContract<S> {
  return { module, schemas }
}

// biome-ignore lint/suspicious/noExplicitAny: contracts of any schemas; each keeps its own types
export type AnyCalls = CallsContract<any>

/** The calls of a contract, for callers. */
export type CallsOf<C extends AnyCalls> = {
  readonly [Name in keyof C['schemas']]: (
    input: Static<C['schemas'][Name]['input']>,
  ) => Promise<Static<C['schemas'][Name]['output']>>
}

/** The implementations of a contract's calls. Results are only read, so a frozen value from the cache is allowed. */
export type CallHandlers<C extends AnyCalls = CallsContract> = {
  readonly [Name in keyof C['schemas']]: (
    input: Static<C['schemas'][Name]['input']>,
  ) => Result<Static<C['schemas'][Name]['output']>>
}

type Result<Output> = PromiseLike<ReadOnly<Output>> | ReadOnly<Output>

export interface CallRules {
  /** Whether values are checked against their schemas and copied, with errors, as between processes. For development and tests. */
  checked: boolean
  inTransaction(): boolean
}

/** Delivers a call to its handler. */
export type Send = (name: string, input: unknown) => PromiseLike<unknown> | unknown

/** Returns the calls of a contract, sent by `send`. */
export function callsBy<C extends AnyCalls>({ module, schemas }: C, send: Send, rules: CallRules): CallsOf<C> {
  const calls = Object.entries(schemas as CallSchemas).map(([call, schema]) => {
    const name = `${module}.${call}`
    const input = jsonCheck(schema.input, 'CALL_INVALID', `The input of ${name}`)
    const output = jsonCheck(schema.output, 'CALL_INVALID', `The output of ${name}`)
    async function run(value: unknown): Promise<unknown> {
      if (rules.inTransaction()) {
        throw new RungError(
          'CALL_IN_TRANSACTION',
          `${name} was called inside data.write. It would not be part of the transaction; call it before or after.`,
        )
      }
      if (!rules.checked) return send(call, value)
      return output(await send(call, input(value).value)).value
    }
    return [call, run]
  })
  return Object.fromEntries(calls)
}
