import { createHash } from 'node:crypto'
import { sleep } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'

/** A cache in front of the app that keeps pages by their tags. What must hold: when `purge` resolves, no request that begins from then on gets a page with one of them that was made before. */
export interface PageEdge {
  /** `*` is all. */
  purge(tags: readonly string[]): Promise<void>
}

const retryMs = { base: 100, max: 5_000 }

/** Tags as they go over the wire: short, whatever they are made of. Two that fall together (1 in 2^48) purge each other's pages. */
export function edgeTag(name: string): string {
  return createHash('sha256').update(name).digest('base64url').slice(0, 8)
}

/**
 * Tells the edge before the writer is answered. What it could not be told, it is told as soon as it can be reached, all at once: the
 * pages of that time are gone.
 */
export class EdgeCache {
  readonly #edge: PageEdge
  readonly #failed: (error: unknown) => void
  readonly #ended = new AbortController()
  #mending: Promise<void> | undefined
  /** Purges that did not arrive. */
  #missed = 0

  constructor(edge: PageEdge, failed: (error: unknown) => void) {
    this.#edge = edge
    this.#failed = failed
  }

  /** False: it will be told. */
  async invalidate(names: readonly string[]): Promise<boolean> {
    try {
      await this.#edge.purge(names.map(edgeTag))
      return true
    } catch (error) {
      this.#failed(error)
      this.#missed += 1
      this.#mending ??= this.#mend().finally(() => {
        this.#mending = undefined
      })
      return false
    }
  }

  async close(): Promise<void> {
    this.#ended.abort()
    await this.#mending
  }

  async #mend(): Promise<void> {
    let told = -1
    for (let failures = 0; told !== this.#missed && !this.#ended.signal.aborted; failures += 1) {
      await sleep(retryMs.base + backoffMs(failures, retryMs.base, retryMs.max), this.#ended.signal).catch(() => {})
      const missed = this.#missed
      try {
        await this.#edge.purge(['*'])
        told = missed
      } catch (error) {
        this.#failed(error)
      }
    }
  }
}
