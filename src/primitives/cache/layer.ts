/**
 * What the shared layer asks of its adapter: entries and the counts of their tags, in one place for all processes. It knows
 * nothing of values, times and trust: those are policy above it, in `shared.ts`.
 *
 * What must hold on every adapter:
 * - invalidations are numbered by one counter; a tag has the number of its last one. A tag that is not known (it was never
 *   used, or the engine dropped it) is taken for invalidated: an entry that depends on it is useless;
 * - `store` keeps an entry only if none of its tags was invalidated after the number that `open` gave, and it never puts an older entry in the
 *   place of a newer one;
 * - all of that holds within one epoch. An engine that has lost or may have lost something (flushed, restarted, failed over) begins another one:
 *   nothing of the old is found any more, and calls with the old one are refused (`stale`);
 * - each call ends within a bound, also where the engine does not answer, and then fails.
 */
export interface SharedLayer {
  /**
   * The epoch that counts. Begins another one where there is none, where the engine is not the one that it was begun on, where its
   * mark is too old, and with `renew`; `mark` is the mark of an epoch that begins.
   */
  enter(entering: { renew: boolean; mark: string; markAgeMsMax: number }): Promise<Epoch>
  read(epoch: string, key: string, tags: readonly string[]): Promise<Read | 'stale'>
  /**
   * Makes the tags known, gives the number that counts now, and the lease of the key if nobody has it whose load began after the
   * last invalidation of the tags. Unless there is another entry by now than `seen`: then it is worth a look.
   */
  open(
    epoch: string,
    key: string,
    tags: readonly string[],
    lease: { id: string; ms: number },
    seen: Buffer | undefined,
  ): Promise<Opened | 'stale'>
  /** Ends the lease, if it is still this one's. */
  store(epoch: string, key: string, entry: Storing, leaseId: string): Promise<boolean | 'stale'>
  release(epoch: string, key: string, leaseId: string): Promise<void>
  invalidate(epoch: string, tags: readonly string[]): Promise<boolean | 'stale'>
  /** How far the layer has been told what is in the log. */
  setMark(epoch: string, mark: string): Promise<true | 'stale'>
  /** Calls `lost` when what was true of the engine need not be true any more. */
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
  /** Of each tag asked for; `undefined` for one that is not known. */
  numbers: readonly (number | undefined)[]
}

export interface Opened {
  number: number
  leased: boolean
  /** There is another entry by now. */
  changed: boolean
}

export interface Storing {
  bytes: Buffer
  /** What `open` gave. */
  number: number
  tags: readonly string[]
  ttlMs: number
}

/** For people: what the engine holds. */
export interface LayerFacts {
  engine: string
  keys: number
  bytes: number
  bytesMax: number
  evicted: number
}
