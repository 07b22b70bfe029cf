/**
 * What limits ask of an adapter: counts of what was admitted, by key, over a window that slides. Which limits there are, whose requests
 * are counted together and what a refused client is told is policy above it, in `limits.ts`.
 *
 * What must hold on every adapter:
 * - in *any* window of `windowMs`, also one that begins between two full minutes, at most `max` are admitted for a key, over
 *   all processes that share the adapter's store;
 * - a refusal is not counted: a client that keeps asking gets its share;
 * - `nextMs` after a refusal one more is admitted, unless another client takes it;
 * - after `giveBack` it is as if the unit had never been taken.
 *
 * The window is cut into slots. What was admitted in a slot counts until the last of it has left the window: up to a slot's length too
 * long, never too short, and never longer than a window from now.
 */
export interface Limiter<Receipt = unknown> {
  /** Takes one unit of each quota, each by itself. The verdicts are in the order of the quotas. */
  take(quotas: readonly Quota[]): Promise<Verdict<Receipt>[]>
  /** Undoes admissions. */
  giveBack(receipts: readonly Receipt[]): Promise<void>
  /** Deletes keys whose windows are empty, if the store does not do so by itself. Returns how many. */
  prune(max?: number): Promise<number>
}

export interface Quota {
  /** A digest of limit and subject. One key always has the same window. */
  readonly key: string
  readonly max: number
  readonly windowMs: number
}

export interface Verdict<Receipt = unknown> {
  readonly admitted: boolean
  /** Units admitted in this window, including this one. */
  readonly used: number
  /** Time until a further unit is free. */
  readonly nextMs: number
  /** For `giveBack`. Only the adapter that made it can read it. A refusal has none. */
  readonly receipt: Receipt | undefined
}

/** The receipt of adapters that count in slots. */
export interface SlotReceipt {
  readonly key: string
  readonly slot: number
}

/**
 * More slots are more exact and take more room: with 30, what was admitted first in a slot of a minute counts at most two seconds
 * longer.
 */
const slotsOfWindow = 30

export function slotMsOf(windowMs: number): number {
  return Math.max(1, Math.ceil(windowMs / slotsOfWindow))
}
