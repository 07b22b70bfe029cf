import type { FastifyRequest } from 'fastify'
import { every } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import type { Http } from '../http/contract.ts'
import { onlyFromEdge } from '../http/edge-terms.ts'
import { isOwnRequest } from '../http/own-request.ts'

/** How often answers were given that count as `name`. */
export interface Counted {
  readonly name: string
  readonly n: number
}

/** Writes down what was counted for one module. */
export type TakeCounted = (counted: readonly Counted[]) => Promise<unknown>

const flushEveryMs = 1_000
/** More than a process can answer in a second; while nothing can be written, names that come beyond are not counted. */
const namesMax = 10_000

/** As it is sent to the edge and back: `articles/42`. `@articles/42` is counted for the module `articles`. */
export function countText(module: string, name: string): string {
  const text = name.startsWith('@') ? name.slice(1) : `${module}/${name}`
  if (/^[a-z][a-z0-9-]*\/[\x21-\x7e]{1,150}$/.test(text)) return text
  throw new RungError(
    'CACHE_INVALID',
    `An answer of module "${module}" counts as ${JSON.stringify(name.slice(0, 200))}. Give a name of 1 to 150 visible ASCII characters, such as article:42.`,
  )
}

/** Whoever asks will see the answer: not a program that wants its headers, a browser that fetches ahead, or the process itself. */
export function isReading(request: FastifyRequest): boolean {
  const { 'sec-purpose': purpose } = request.headers
  return request.method === 'GET' && !String(purpose ?? '').includes('prefetch') && !isOwnRequest(request)
}

/**
 * What the answers of this process count as, written down once a second. What could not be written is tried again. A process that is killed
 * loses a second of it; one that stops, none.
 */
export class AnswerCounts {
  readonly #takers: ReadonlyMap<string, TakeCounted>
  readonly #failed: (error: unknown) => void
  #counted = new Map<string, number>()
  #flushing: Promise<void> | undefined
  readonly #end: () => void

  constructor(takers: ReadonlyMap<string, TakeCounted>, failed: (error: unknown) => void) {
    this.#takers = takers
    this.#failed = failed
    this.#end = every(flushEveryMs, () => void this.flush())
  }

  /** Costs the request that calls it an addition in a map. */
  count(text: string, n = 1): void {
    const known = this.#counted.get(text)
    if (known === undefined && this.#counted.size >= namesMax) return
    this.#counted.set(text, (known ?? 0) + n)
  }

  /** Each module in a write of its own; what is for nobody is dropped. */
  async take(counted: ReadonlyMap<string, number>): Promise<void> {
    for (const [module, list] of byModule(counted)) await this.#takers.get(module)?.(list)
  }

  flush(): Promise<void> {
    if (this.#counted.size === 0) return this.#flushing ?? Promise.resolve()
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined
    })
    return this.#flushing
  }

  async close(): Promise<void> {
    this.#end()
    await this.#flushing // what was counted since it began is not in it
    await this.flush()
  }

  async #flush(): Promise<void> {
    const counted = this.#counted
    this.#counted = new Map()
    for (const [module, list] of byModule(counted)) {
      try {
        await this.#takers.get(module)?.(list)
      } catch (error) {
        this.#failed(error)
        for (const { name, n } of list) this.count(`${module}/${name}`, n)
      }
    }
  }
}

function byModule(counted: ReadonlyMap<string, number>): Map<string, Counted[]> {
  const modules = new Map<string, Counted[]>()
  for (const [text, n] of counted) {
    const end = text.indexOf('/')
    const [module, name] = [text.slice(0, end), text.slice(end + 1)]
    const list = modules.get(module)
    if (list) list.push({ name, n })
    else modules.set(module, [{ name, n }])
  }
  return modules
}

export const countsPath = '/-/edge/counts'
const batchBytesMax = 1024 ** 2

/**
 * Where the edge brings what it has counted (`engines/nginx/count-lua.ts`), with the secret of its own door. A batch that comes again under its
 * number is a repeated request, and adds nothing.
 */
export function takeEdgeCounts(http: Http, secret: string, counts: AnswerCounts): void {
  http.post(
    countsPath,
    {
      schema: { hide: true },
      config: { system: true, idempotency: 'required' },
      bodyLimit: batchBytesMax,
      logLevel: 'silent',
      onRequest: onlyFromEdge(secret),
    },
    async (request, reply) => {
      await counts.take(parseBatch(String(request.body)))
      return reply.status(204).send()
    },
  )
}

/** `12 articles/42` on each line. */
function parseBatch(text: string): Map<string, number> {
  const lines = text.split('\n').map((line) => /^(\d{1,12}) (\S+\/\S+)$/.exec(line))
  return new Map(lines.flatMap((line) => (line ? [[line[2]!, Number(line[1])] as const] : [])))
}
