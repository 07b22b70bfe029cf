import { systemClock } from '../kernel/clock.ts'
import { type ErrorCode, errorCodes, errorOf, isRungError, RungError } from '../kernel/errors.ts'
import { requestTimeoutDefaultMs } from '../kernel/http-facts.ts'
import { furthest, type PositionJson, positionFromJson, positionToJson } from '../kernel/position.ts'
import { uuid } from '../kernel/random.ts'
import { currentScope, type Principal, runInTime, Scope } from '../kernel/scope.ts'
import type { CallHandlers, Send } from './calls.ts'

/**
 * The messages of a call between two processes, in plain JSON: its input with a part of the caller's scope; and its output or error, with the
 * position that the callee has reached.
 *
 *   caller's scope ── CallMessage ──► a scope of the callee's own: same trace, deadline, position and principal
 *                  ◄── CallReply ──── output or error; a position that covers what the callee has read and written
 */
export interface CallMessage {
  readonly name: string
  readonly input: unknown
  readonly traceparent?: string | undefined
  /** The caller's remaining time, ms; 30 s if it has no limit. A point in time would need clocks that agree. */
  readonly timeLeftMs?: number | undefined
  readonly position: PositionJson
  /** Whether the session's position is unknown, so that reads must go to the primary. */
  readonly positionUnknown?: boolean | undefined
  readonly principal?: Principal | undefined
}

export interface CallReply {
  readonly output?: unknown
  readonly error?: CrossedError | undefined
  readonly position: PositionJson
  /** Whether the callee has committed anything. Such a commit is not a recorded step that a repeated request skips. */
  readonly wrote: boolean
  /** Cache tags of what the callee has read, on which an entry that the caller makes of the output depends too. */
  readonly tags?: readonly string[] | undefined
}

/** An error without its cause and stack, which are in the log of the process that threw it. */
export interface CrossedError {
  readonly code: ErrorCode
  readonly message: string
  readonly status: number
  readonly facts: Readonly<Record<string, unknown>>
}

/** Sends a message to the callee's process and returns its reply. The signal aborts when nobody waits for it any more. */
export type Transport = (message: CallMessage, signal?: AbortSignal) => Promise<CallReply>

/** What a call has to do with the caches of the two processes. */
export interface CallTags {
  /** Collects the tags of the entries that a scope reads from now on. */
  collect(scope: Scope): () => readonly string[]
  /** Adds tags to the load that runs in the scope, if one does. */
  inherit(scope: Scope | undefined, names: readonly string[]): void
}

/** Returns a `Send` that carries the running scope to another process, and moves its position forward by the reply. */
export function sendOver(transport: Transport, tags?: Pick<CallTags, 'inherit'>): Send {
  return async (name, input) => {
    const scope = currentScope()
    if (scope?.cancelled) throw scope.cancelled
    await scope?.recallPosition()
    const message: CallMessage = {
      name,
      input,
      traceparent: scope?.traceparent,
      timeLeftMs: timeLeft(scope),
      position: positionToJson(scope?.position ?? new Map()),
      positionUnknown: scope?.positionUnknown || undefined,
      principal: scope?.principal,
    }
    const reply = await transport(message, scope?.signal).catch((error) => {
      throw scope?.cancelled ?? error
    })
    if (scope) {
      scope.position = furthest(scope.position, positionFromJson(reply.position))
      if (reply.wrote) {
        scope.wrote = true
        scope.repeatable = false
      }
      if (reply.tags) tags?.inherit(scope, reply.tags)
    }
    if (reply.error) throw thrownFrom(reply.error)
    return reply.output
  }
}

/** Runs the handler that a message names, in a scope made from it. Never rejects. */
export async function answerCall(
  handlers: CallHandlers,
  message: CallMessage,
  tags?: Pick<CallTags, 'collect'>,
): Promise<CallReply> {
  const scope = new Scope('call', uuid(), message.name)
  scope.traceparent = message.traceparent
  scope.position = positionFromJson(message.position)
  scope.positionUnknown = message.positionUnknown ?? false
  scope.principal = message.principal
  const { timeLeftMs = requestTimeoutDefaultMs } = message
  const forget = currentScope()?.onCancel((reason) => scope.cancel(reason)) // the caller has gone
  scope.deadlineAt = systemClock.ticks() + timeLeftMs
  const collected = tags?.collect(scope)
  const seen = () => {
    const names = collected?.() ?? []
    return { position: positionToJson(scope.position), wrote: scope.wrote, ...(names.length > 0 && { tags: names }) }
  }
  try {
    const handler = Object.hasOwn(handlers, message.name) ? handlers[message.name] : undefined
    if (!handler)
      throw new RungError('CALL_INVALID', `There is no call "${message.name}". Deploy the same version on both sides.`)
    const run = async () => handler(message.input as never)
    const output = await runInTime(scope, timeLeftMs, () => late(message.name), run)
    return { output, ...seen() }
  } catch (error) {
    return { error: toCrossed(error), ...seen() }
  } finally {
    forget?.()
  }
}

/** Returns the error that a caller in another process would get, with the original as its cause. */
export function crossed(error: unknown): RungError {
  return thrownFrom(toCrossed(error), error)
}

function toCrossed(thrown: unknown): CrossedError {
  const error = errorOf(thrown)
  if (isRungError(error)) {
    const { code, message, status, facts } = error
    return { code, message, status, facts }
  }
  return { code: 'HTTP_INTERNAL', message: 'The called module failed. Its log has the reason.', status: 500, facts: {} }
}

function thrownFrom({ code, message, status, facts }: CrossedError, cause?: unknown): RungError {
  const known = Object.hasOwn(errorCodes, code) ? code : 'HTTP_INTERNAL'
  return new RungError(known, message, { status, facts: { ...facts }, ...(cause !== undefined && { cause }) })
}

function timeLeft(scope: Scope | undefined): number | undefined {
  if (!scope || scope.deadlineAt === Number.POSITIVE_INFINITY) return undefined
  return Math.max(0, scope.deadlineAt - systemClock.ticks())
}

function late(name: string): RungError {
  return new RungError('HTTP_TIMEOUT', `The call ${name} took longer than its caller's remaining time.`)
}
