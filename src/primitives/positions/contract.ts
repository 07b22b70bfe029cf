import type { Position } from '../../kernel/position.ts'

/**
 * What sessions that keep no cookie ask of an adapter: how far they had written when they last did, by their owner:
 * a credential or a principal. The texts of owners may be secret; an adapter that stores them elsewhere stores a digest.
 *
 * What must hold on every adapter:
 * - a `find` that begins after a `put` has ended, in any process, returns a position that covers it, for `keptMs` at least;
 *   two that put at once are both covered;
 * - where that cannot be said, `find` fails: nobody is told "nothing" by an adapter that does not know.
 */
export interface PositionRecords {
  put(owner: string, position: Position): Promise<void>
  /** `undefined`: has written nothing lately. */
  find(owner: string): Promise<Position | undefined>
}

/** By then every node has caught up, or is no longer asked. */
export const keptMs = 60_000
