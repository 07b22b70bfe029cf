/**
 * What limits ask of an adapter: counts of what was admitted, by key, over a window that slides. Which limits there are, whom
 * they are kept for and what a refused client is told is policy above it, in `limits.ts`.
 *
 * What must hold on every adapter:
 * - in *any* window of `windowMs`, also one that begins between two full minutes, at most `max` are admitted for a key, over
 *   all processes that share the adapter's store;
 * - what is refused is not counted: a client that keeps asking gets its share;
 * - at `nextMs` after a refusal one more is admitted, unless somebody else takes it;
 * - what is given back is as if it had never been taken.
 *
 * The window is cut into slots. What was admitted in a slot counts until the last of it has left: so at most a slot's length too
 * long, never too short, and never longer than a window from now.
 */
export interface Limiter {
  /** One of each key, each by itself. The verdicts come in the order of the asks. */
  take(asks: readonly Ask[]): Promise<Verdict[]>
  giveBack(taken: readonly Taken[]): Promise<void>
  /** Forgets keys whose windows are empty, where the store does not do that by itself. Gives how many. */
  prune(): Promise<number>
}

export interface Ask {
  /** A digest of limit and subject. One key always has the same window. */
  readonly key: string
  readonly max: number
  readonly windowMs: number
}

export interface Verdict {
  readonly admitted: boolean
  /** Admitted in this window, this one included. */
  readonly used: number
  /** When a further one comes back, ms from now. */
  readonly nextMs: number
  /** For `giveBack`. */
  readonly slot: number
  /** The same in the counts that the process keeps beside shared ones. */
  readonly ownSlot?: number | undefined
}

export interface Taken {
  readonly key: string
  readonly slot: number
  readonly ownSlot?: number | undefined
}

/** Parts of a window. More are more exact and cost more room: with 30, what was admitted first in a slot of a minute counts at most two seconds longer. */
export const slotsOfWindow = 30

export function slotMsOf(windowMs: number): number {
  return Math.max(1, Math.ceil(windowMs / slotsOfWindow))
}
