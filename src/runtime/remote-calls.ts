import { Agent, request } from 'node:http'
import type { CallsContract, Send } from '../app/calls.ts'
import { type CallReply, type CallTags, sendOver } from '../app/crossing.ts'
import { causesOf, isRungError, partOf, RungError } from '../kernel/errors.ts'
import type { Keys } from '../kernel/keys.ts'
import { currentScope, inDoubt } from '../kernel/scope.ts'
import { type Outgoing, outgoing } from '../primitives/outgoing/outgoing.ts'
import { callContentType, pathOfCall } from './call-door.ts'
import { signatureHeader, signCall } from './call-signature.ts'

/** Less than the balancer and the app keep an idle connection, so that none is used that is just being closed. */
const idleMsMax = 20_000

/** How this process calls those of other groups. */
export interface RemoteCalls {
  /** @param target the name of the group, which has its own limits, circuit breaker and retry budget */
  to(target: string, contract: CallsContract): Send
  close(): void
}

export interface RemoteCallsOptions {
  /** The balancer's address for calls: `http://127.0.0.1:9001`. */
  url: string
  keys: Keys
  tags: Pick<CallTags, 'inherit'>
}

/** Calls go through the balancer, which knows the processes of each group and their state. */
export function remoteCalls({ url, keys, tags }: RemoteCallsOptions): RemoteCalls {
  const { hostname: host, port } = new URL(url)
  const agent = new Agent({ keepAlive: true, timeout: idleMsMax, scheduling: 'lifo' })
  const guards = new Map<string, Outgoing>()
  const guardOf = (target: string) => {
    const known = guards.get(target) ?? outgoing(`the nodes of ${target}`, { concurrency: 200 })
    guards.set(target, known)
    return known
  }

  async function ask(path: string, body: string, signal: AbortSignal): Promise<CallReply> {
    const { status, answer } = await send(path, body, signal)
    if (status === 200) return JSON.parse(answer) as CallReply
    throw refused(path, status, answer)
  }

  /** By hand, since helpers for streams and signals cost as much as all the rest of a call. */
  function send(path: string, body: string, signal: AbortSignal): Promise<{ status: number; answer: string }> {
    const headers = {
      'content-type': callContentType,
      'content-length': Buffer.byteLength(body),
      [signatureHeader]: signCall(keys, path, body),
    }
    return new Promise((resolve, reject) => {
      const sent = request({ host, port, path, method: 'POST', agent, headers }, (incoming) => {
        let answer = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (chunk: string) => {
          answer += chunk
        })
        incoming.on('end', () => {
          signal.removeEventListener('abort', abort)
          resolve({ status: incoming.statusCode!, answer })
        })
        incoming.on('error', reject)
      })
      const abort = () => sent.destroy(signal.reason)
      signal.addEventListener('abort', abort, { once: true })
      sent.on('error', reject)
      sent.end(body)
    })
  }

  return {
    to(target, { module, schemas }) {
      const guard = guardOf(target)
      return sendOver((message) => {
        const [path, body] = [pathOfCall(module, message.name), JSON.stringify(message)]
        const idempotent = schemas[message.name]?.read === true
        return idempotent
          ? guard.call((signal) => ask(path, body, signal), { idempotent })
          : sentOnce(() => guard.call((signal) => ask(path, body, signal)))
      }, tags)
    },
    close: () => agent.destroy(),
  }
}

/** A call without an answer may have written something, and its caller must not tell its own client to try again. */
async function sentOnce(send: () => Promise<CallReply>): Promise<CallReply> {
  const settled = inDoubt(currentScope())
  try {
    const reply = await send()
    settled()
    return reply
  } catch (error) {
    if (isNotRun(error)) settled()
    throw error
  }
}

/** Errors of calls that no handler has run. */
const notRun = new WeakSet<Error>()

/** Whether the handler has certainly not run. */
function isNotRun(error: unknown): boolean {
  if (isRungError(error, 'OUTGOING_OPEN') || isRungError(error, 'OUTGOING_FULL')) return true
  if (isRungError(error) && error.facts.notRun === true) return true
  return [...causesOf(error)].some((cause) => partOf(cause, 'code') === 'ECONNREFUSED')
}

/** The balancer or the door refused the call: the handler has not run. */
function refused(path: string, status: number, answer: string): RungError {
  const name = path.slice(path.lastIndexOf('/') + 1)
  if (status === 404)
    return new RungError('CALL_INVALID', `There is no call ${name} on its nodes. Deploy a version that has it first.`)
  if (status === 401)
    return new RungError('CALL_INVALID', `The call ${name} was refused: its nodes have other keys, or another time.`)
  // 503 is the balancer's, which has no process for it, or that of a process that has no time; after others it may have run.
  const error = new RungError(
    'OUTGOING_FAILED',
    `The call ${name} was answered with ${status}: ${answer.slice(0, 200)}`,
  )
  if (status === 503) notRun.add(error)
  return error
}
