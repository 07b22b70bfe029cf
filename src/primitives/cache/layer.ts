/**
 * What the shared layer asks of its adapter: entries and the counts of their tags, in one place for all processes. It knows
 * nothing of values, times and trust: those are policy above it, in `shared.ts`.
 *
 * What must hold on every adapter:
 * - invalidations are numbered by one counter, and a tag has the number of its last one. A tag that is not known (it was never
 *   used, or was evicted) counts as invalidated: an entry that depends on it is not used;
 * - `store` keeps an entry only if none of its tags was invalidated after the number that `open` returned, and it never replaces a
 *   newer entry by an older one;
 * - all of that holds within one epoch. An engine that may have lost something (flushed, restarted, failed over) begins another
 *   epoch: nothing of the old one is found any more, and calls with the old one are refused (`stale`);
 * - each call ends within a bound, even if the engine does not answer, and then fails.
 */
export interface SharedLayer {
  /**
   * Returns the current epoch. Begins another one if there is none, if the engine is not the one on which it was begun, if its mark
   * is too old, and with `renew`; `mark` is the mark of an epoch that begins.
   */
  enter(entering: { renew: boolean; mark: string; markAgeMsMax: number }): Promise<Epoch>
  read(epoch: string, key: string, tags: readonly string[]): Promise<Read | 'stale'>
  /**
   * Makes the tags known, returns the current number, and takes the lease of the key unless a load has it that began after the last
   * invalidation of the tags. If there is another entry by now than `seen`, only `changed` is returned.
   */
  open(
    epoch: string,
    key: string,
    tags: readonly string[],
    lease: { id: string; ms: number },
    seen: Buffer | undefined,
  ): Promise<Opened | 'stale'>
  /** Ends the lease, if it still has this id. */
  store(epoch: string, key: string, entry: Storing, leaseId: string): Promise<boolean | 'stale'>
  release(epoch: string, key: string, leaseId: string): Promise<void>
  invalidate(epoch: string, tags: readonly string[]): Promise<boolean | 'stale'>
  /** Notes up to which mark of the log the layer has been told. */
  setMark(epoch: string, mark: string): Promise<true | 'stale'>
  /** Calls `lost` when the engine may have become another one. */
  watch(lost: () => void): void
  facts(): Promise<LayerFacts>
  close(): Promise<void>
}

export interface Epoch {
  id: string
  mark: string
}

export interface Read {
  entry: Buffer | undefined
  /** One for each tag that was asked for; `undefined` if the tag is not known. */
  numbers: readonly (number | undefined)[]
}

export interface Opened {
  number: number
  leased: boolean
  /** There is another entry by now than the one that was seen. */
  changed: boolean
}

export interface Storing {
  bytes: Buffer
  /** The number that `open` returned. */
  number: number
  tags: readonly string[]
  ttlMs: number
}

/** Facts about the engine, shown to people. */
export interface LayerFacts {
  engine: string
  keys: number
  bytes: number
  bytesMax: number
  evicted: number
}
