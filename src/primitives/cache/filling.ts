import { AsyncLocalStorage } from 'node:async_hooks'

/** Tells warming from other reads: warming reads past the memory, so that a shared layer is filled again after it was emptied. */
export class Filling {
  readonly #storage = new AsyncLocalStorage<true>()
  #runs = 0

  async run<T>(fn: () => Promise<T>): Promise<T> {
    this.#runs += 1
    try {
      return await this.#storage.run(true, fn)
    } finally {
      this.#runs -= 1
    }
  }

  get isOn(): boolean {
    return this.#runs > 0 && this.#storage.getStore() === true
  }
}
