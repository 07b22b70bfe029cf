import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { machineTicks } from '../kernel/clock.ts'
import type { Kind, Operation, Outcome, RateLimit, Value } from './operation.ts'

/** What is known when an operation begins. */
export interface Invocation {
  kind: Kind
  session: string
  key: string
  node?: string
  value?: Value
  basedOn?: Value | null
  amounts?: Readonly<Record<string, number>>
  fresh?: boolean
  staleMsMax?: number
  cached?: boolean
  limit?: RateLimit
  token?: number
}

/** What is known when it has an outcome. */
export type Completion = Pick<
  Operation,
  'node' | 'value' | 'version' | 'values' | 'amounts' | 'cached' | 'token' | 'position'
>

/** An operation that runs. Only its first outcome counts. */
export interface Begun {
  ok(completion?: Completion): void
  /** It is certain that it did not happen, and that nothing that is still under way makes it happen. */
  fail(error?: unknown): void
  /** It may have happened: a time-out, a broken connection. */
  info(error?: unknown): void
}

export interface Recorder {
  begin(invocation: Invocation): Begun
  /** Everything so far; what still runs has an unknown outcome. */
  operations(): readonly Operation[]
  /** Waits until everything is in the file. What still runs stays without an outcome there. */
  close(): Promise<void>
}

export interface RecorderOptions {
  /** Also writes JSON lines: one when an operation begins, one when it has an outcome. An existing file is replaced. */
  file?: string
  /** Monotonic time in ms, of one clock for the whole history. Default: the machine's, which is the same in all its processes. */
  now?: () => number
}

/** A line of the file. `invoke` has what is known before, the others what is known after. */
export type Line = { id: number; at: number } & (
  | ({ type: 'invoke' } & Invocation)
  | ({ type: Outcome; error?: string } & Completion)
)

/** Lines are written together; a call for each would cost more than the operation. */
const linesTogether = 500

export function createRecorder({ file, now = machineTicks }: RecorderOptions = {}): Recorder {
  const operations: Operation[] = []
  const stream = file === undefined ? undefined : createWriteStream(file)
  let failure: Error | undefined
  stream?.on('error', (error) => {
    failure ??= error
  })
  let waiting: string[] = []

  function write(line: Line): void {
    if (!stream) return
    waiting.push(JSON.stringify(line))
    if (waiting.length >= linesTogether) flush()
  }

  function flush(): void {
    if (waiting.length > 0) stream?.write(`${waiting.join('\n')}\n`)
    waiting = []
  }

  return {
    begin(invocation) {
      const beganAt = now()
      const id = operations.length
      const operation: Operation = {
        id,
        ...invocation,
        beganAt,
        endedAt: Number.POSITIVE_INFINITY,
        outcome: 'info',
      }
      operations.push(operation)
      write({ id, type: 'invoke', at: beganAt, ...invocation })
      const end = (type: Outcome, completion: Completion & { error?: string }) => {
        if (operation.endedAt !== Number.POSITIVE_INFINITY) return
        complete(operation, type, now(), completion)
        write({ id, type, at: operation.endedAt, ...completion })
      }
      return {
        ok: (completion = {}) => end('ok', completion),
        fail: (error) => end('fail', error === undefined ? {} : { error: String(error) }),
        info: (error) => end('info', error === undefined ? {} : { error: String(error) }),
      }
    },
    operations: () => operations,
    async close() {
      if (!stream) return
      flush()
      if (!failure) {
        stream.end()
        await once(stream, 'close')
      }
      if (failure) throw failure
    },
  }
}

/** Puts the outcome into the operation. What it wrote stays as it was known at its beginning. */
export function complete(operation: Operation, outcome: Outcome, at: number, completion: object): void {
  const { value, amounts } = operation
  Object.assign(operation, completion, { outcome, endedAt: at })
  if (value !== undefined && operation.kind !== 'send') operation.value = value
  if (amounts !== undefined) operation.amounts = amounts
}
