/**
 * What upkeep asks of an adapter: a lease that one process of the fleet holds. Which work there is, and how often, is policy above it, in
 * `upkeep.ts`.
 *
 * What must hold on every adapter:
 * - of any number of processes that ask, one holds the lease, until it releases it or its time is over by the clock of the store;
 * - whoever holds it may hold it for longer.
 *
 * Two processes may each believe for a moment that they hold it (one was paused and does not know that its time is over), so the work must
 * do no harm when it is done twice at once.
 */
export interface Lease {
  /** Takes the lease, or holds it for longer. Returns whether `holder` holds it now. */
  hold(holder: string, forMs: number): Promise<boolean>
  /** Ends the lease if `holder` holds it. */
  release(holder: string): Promise<void>
}
