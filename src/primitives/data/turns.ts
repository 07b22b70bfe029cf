import { after, systemClock } from '../../kernel/clock.ts'
import { behind } from './errors.ts'

/** A number of turns, taken in the order of asking. */
export class Turns {
  readonly #max: number
  #taken = 0
  readonly #waiting = new Set<() => void>()

  constructor(max: number) {
    this.#max = max
  }

  /**
   * @returns what ends the turn; it is called once
   * @throws DATA_BEHIND if none is free by then, ms on the monotonic clock
   */
  async take(deadlineAt: number): Promise<() => void> {
    if (this.#taken >= this.#max) await this.#wait(deadlineAt)
    else this.#taken += 1
    return () => {
      const [next] = this.#waiting
      if (!next) this.#taken -= 1
      else next() // the turn passes on
    }
  }

  #wait(deadlineAt: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const next = () => {
        this.#waiting.delete(next)
        forget()
        resolve()
      }
      this.#waiting.add(next)
      const forget = after(Math.max(0, deadlineAt - systemClock.ticks()), () => {
        this.#waiting.delete(next)
        reject(behind())
      })
    })
  }
}
