import { type Clock, sleep, systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'

/** CDNs count calls, not tags: so long is gathered after each. */
const pauseMs = 500
const restMsMax = 600_000

/**
 * Purges of a CDN, by one process: what is asked for while a call is under way goes with the next one, and none is made before the time at which
 * the CDN has said to come again.
 */
export class CdnPurges {
  readonly #call: (tags: readonly string[]) => Promise<void>
  readonly #clock: Clock
  readonly #waiting = new Set<string>()
  #next: Promise<void> | undefined
  #last: Promise<void> = Promise.resolve()
  #restUntil = Number.NEGATIVE_INFINITY
  #pauseUntil = Number.NEGATIVE_INFINITY

  constructor(call: (tags: readonly string[]) => Promise<void>, clock: Clock = systemClock) {
    this.#call = call
    this.#clock = clock
  }

  /**
   * Resolves when a call that began after this has been accepted.
   * @throws CDN_PURGE_FAILED
   */
  purge(tags: readonly string[]): Promise<void> {
    for (const tag of tags) this.#waiting.add(tag)
    this.#next ??= this.#last.catch(() => {}).then(() => this.#send())
    return this.#next
  }

  #send(): Promise<void> {
    this.#last = this.#sent()
    return this.#last
  }

  async #sent(): Promise<void> {
    const waitMs = this.#pauseUntil - this.#clock.ticks()
    if (waitMs > 0) await sleep(waitMs)
    const tags = [...this.#waiting]
    this.#waiting.clear()
    this.#next = undefined // from here on for the one after
    const restMs = this.#restUntil - this.#clock.ticks()
    if (restMs > 0) {
      const seconds = Math.ceil(restMs / 1_000)
      throw new RungError('CDN_PURGE_FAILED', `The CDN has asked to be left alone for another ${seconds} s.`)
    }
    try {
      await this.#call(tags)
    } catch (error) {
      const { retryAfterS } = isRungError(error, 'CDN_PURGE_FAILED') ? error.facts : {}
      if (typeof retryAfterS === 'number')
        this.#restUntil = this.#clock.ticks() + Math.min(restMsMax, retryAfterS * 1_000)
      throw error
    } finally {
      this.#pauseUntil = this.#clock.ticks() + pauseMs
    }
  }
}
