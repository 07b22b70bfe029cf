import { after } from '../../kernel/clock.ts'

/** One sleeper, many who may wake it. */
export interface Wake {
  /** How often it was called. */
  readonly count: number
  now(): void
  /** Until somebody calls `now`, or `ms` have passed. */
  wait(ms?: number): Promise<void>
}

export function waker(): Wake {
  let count = 0
  let wake = () => {}
  return {
    get count() {
      return count
    },
    now() {
      count += 1
      wake()
    },
    wait(ms) {
      return new Promise((resolve) => {
        const forget = ms === undefined ? () => {} : after(ms, () => wake())
        wake = () => {
          forget()
          wake = () => {}
          resolve()
        }
      })
    },
  }
}
