const shareMin = 0.01
const shareMax = 0.8
const stepMin = 0.05
const stepMax = 0.4
const restMin = 4
const restMax = 32
/** Standard errors of the difference of two hit ratios. */
const doubt = 1.5

/**
 * How much of the store should be its window, found by hill climbing: a step, a period of gets, a comparison of hit ratios
 * (Einziger, Eytan, Friedman, Manes, "Adaptive Software Cache Management", Middleware 2018). There a step that is no worse is
 * followed by another one. A small store counts too few gets for that, and wanders: it lost up to 20 points on a loop. Here a
 * larger window must show that it is better, beyond chance; a smaller one, which resists scans, only that it is not worse.
 * What fails is undone, and the next try is later and longer.
 */
export class Climb {
  share = shareMin
  /** Before the step that is being tried. */
  #shareBefore = shareMin
  #rateBefore = 0
  /** Of the step that is being tried: 1, -1, or 0 for none. */
  #trying = 0
  #direction = -1
  #step = stepMin
  #restNext = restMin
  /** Periods until the next try. The first one only measures. */
  #rest = 1

  /** At the end of a period. */
  next(hits: number, gets: number): void {
    const rate = hits / gets
    const noise = doubt * Math.sqrt((2 * rate * (1 - rate) + 1 / gets) / gets)
    const change = rate - this.#rateBefore
    this.#rateBefore = rate
    if (this.#trying !== 0) {
      if (this.#trying > 0 ? change > noise : change > -noise) {
        this.#step = Math.min(stepMax, 2 * this.#step)
        this.#restNext = restMin
        this.#try()
      } else this.#undo()
    } else if (this.#rest > 0) {
      this.#rest = Math.abs(change) > 2 * noise ? 0 : this.#rest - 1 // requests are of another kind now
    } else {
      this.#direction = this.share <= shareMin ? 1 : this.share >= shareMax ? -1 : -this.#direction
      this.#try()
    }
  }

  #try(): void {
    const share = Math.min(shareMax, Math.max(shareMin, this.share + this.#direction * this.#step))
    this.#shareBefore = this.share
    this.#trying = share === this.share ? 0 : this.#direction
    this.share = share
    if (this.#trying === 0) {
      this.#rest = restMin
      this.#step = stepMin
    }
  }

  #undo(): void {
    this.share = this.#shareBefore
    this.#trying = 0
    this.#step = this.#step >= stepMax ? stepMin : 2 * this.#step
    this.#restNext = Math.min(restMax, 2 * this.#restNext)
    this.#rest = this.#restNext
  }
}
