import { createHash } from 'node:crypto'
import { sleep } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import type { PageEdge, Place } from './contract.ts'

const retryMs = { base: 100, max: 5_000 }

/** Returns the tag as it goes over the wire: short, whatever it is made of. Two that fall together (1 in 2^48) purge each other's pages. */
export function edgeTag(name: string): string {
  return createHash('sha256').update(name).digest('base64url').slice(0, 8)
}

/** The edge as a place. If a purge fails, everything is purged as soon as the edge can be reached, before which its pages may be old. */
export class EdgeCache implements Place {
  readonly knownAs = 'edge'
  readonly fillsMemory = false
  readonly #edge: PageEdge
  readonly #failed: (error: unknown) => void
  readonly #ended = new AbortController()
  #purgingAll: Promise<void> | undefined
  /** How often all pages became doubtful. */
  #missed = 0

  constructor(edge: PageEdge, failed: (error: unknown) => void) {
    this.#edge = edge
    this.#failed = failed
  }

  async invalidate(names: readonly string[]): Promise<string | undefined> {
    try {
      await this.#edge.purge(names.map(edgeTag))
      return this.knownAs
    } catch (error) {
      this.#failed(error)
      this.distrust()
      return undefined
    }
  }

  distrust(): void {
    this.#missed += 1
    this.#purgingAll ??= this.#purgeAll().finally(() => {
      this.#purgingAll = undefined
    })
  }

  async close(): Promise<void> {
    this.#ended.abort()
    await this.#purgingAll
  }

  async #purgeAll(): Promise<void> {
    let done = -1
    for (let failures = 0; done !== this.#missed && !this.#ended.signal.aborted; failures += 1) {
      await sleep(retryMs.base + backoffMs(failures, retryMs.base, retryMs.max), this.#ended.signal).catch(() => {})
      const missed = this.#missed
      try {
        await this.#edge.purge(['*'])
        done = missed
      } catch (error) {
        this.#failed(error)
      }
    }
  }
}
