import { channel } from 'node:diagnostics_channel'
import type { Static, TSchema } from 'typebox'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { jsonCheck } from '../kernel/schema.ts'
import type { Duration } from '../kernel/units.ts'
import type { ReadOnly } from '../primitives/http/route-types.ts'

export interface CallSchema {
  readonly input: TSchema
  readonly output: TSchema
  /** Whether it changes nothing. Only then it is sent a second time if the first one got no answer. */
  readonly read?: boolean
  /**
   * How long callers may keep the output of a read. It ends earlier with the tags of what the handler has read from the cache, and nobody
   * gets an output that is older than their own writes.
   */
  readonly ttl?: Duration
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
 *   names: { input: Type.Object({ ids: Type.Array(Type.Integer()) }), output: Type.Array(Type.String()), read: true },
 * })
 * @throws APP_INVALID for a call that is kept and not a read
 */
export function defineCalls<S extends CallSchemas>(module: string, schemas: S): CallsContract<S> {
  for (const [name, { read, ttl }] of Object.entries(schemas)) {
    if (ttl !== undefined && !read)
      throw new RungError(
        'APP_INVALID',
        `${module}.${name} has a ttl and is no read. Add read: true, or leave the ttl out.`,
      )
  }
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

/** Checks the values of a call. @throws CALL_INVALID */
export function checksOf(module: string, call: string, { input, output }: CallSchema) {
  const name = `${module}.${call}`
  return {
    input: jsonCheck(input, 'CALL_INVALID', `The input of ${name}`),
    output: jsonCheck(output, 'CALL_INVALID', `The output of ${name}`),
  }
}

/** Tells that a module's call has ended: `CallDone`. */
export const callDone = channel('rung:call')

export interface CallDone {
  readonly from: string
  /** The called module. */
  readonly to: string
  readonly durationMs: number
}

/** Returns calls that tell who has made them. */
export function calledBy<C extends AnyCalls>(from: string, { module: to }: C, calls: CallsOf<C>): CallsOf<C> {
  const told = Object.entries(calls as Record<string, (input: unknown) => Promise<unknown>>).map(([name, call]) => {
    const run = async (input: unknown) => {
      if (!callDone.hasSubscribers) return call(input)
      const began = systemClock.ticks()
      try {
        return await call(input)
      } finally {
        callDone.publish({ from, to, durationMs: systemClock.ticks() - began } satisfies CallDone)
      }
    }
    return [name, run]
  })
  return Object.fromEntries(told)
}

/** Returns the calls of a contract, sent by `send`. */
export function callsBy<C extends AnyCalls>({ module, schemas }: C, send: Send, rules: CallRules): CallsOf<C> {
  const calls = Object.entries(schemas as CallSchemas).map(([call, schema]) => {
    const name = `${module}.${call}`
    const { input, output } = checksOf(module, call, schema)
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
