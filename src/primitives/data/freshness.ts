import { type Lsn, type Place, placeAt, reaches, timelineOf } from '../../kernel/position.ts'

/** What a server says of itself at one moment. */
export interface Report {
  readonly isPrimary: boolean
  /** Up to where its log is replayed; on the primary, where the log ends. */
  readonly lsn: Lsn
  /** On a replica: the latest timeline whose log it has asked for. */
  readonly timeline: number
  readonly snapshot: Snapshot
}

/** Which transactions a statement that begins now sees as ended. */
export interface Snapshot {
  /** The last transaction that has ended, plus one. Later ones may be in progress. */
  readonly xmax: bigint
  /** Earlier ones that are in progress. Empty on a replica, which does not tell. */
  readonly open: readonly bigint[]
}

const entriesMax = 600

/**
 * Where the primary's log ended at which times. What was committed and answered before a question was sent is covered by the place in
 * its answer, so a replica that has replayed up to that place shows the database as it was then, or later. Clocks of servers are not
 * compared.
 */
export class PrimaryHistory {
  #entries: { at: number; place: Place }[] = []

  /** The place of the timeline that was seen first. The timeline began there or before. */
  #first: Place | undefined

  get timeline(): number | undefined {
    return this.#first === undefined ? undefined : timelineOf(this.#first)
  }

  get last(): Place | undefined {
    return this.#entries.at(-1)?.place
  }

  /** @param at when the question was sent, ms on the monotonic clock */
  add(at: number, place: Place): void {
    const { timeline, last } = this
    if (timeline !== undefined && timelineOf(place) < timeline) return // a primary that was replaced
    if (timeline !== timelineOf(place)) {
      this.#first = place
      this.#entries = []
    }
    if (last === place) this.#entries.pop() // nothing was written meanwhile
    this.#entries.push({ at, place })
    // Old entries matter only to a replica that lags for long: every second one is enough. The newest stays.
    const { length } = this.#entries
    if (length > entriesMax) this.#entries = this.#entries.filter((_, index) => (length - index) % 2 === 1)
  }

  /**
   * Returns the place that reads on a replica cover from now on, or `undefined` if its log may be another one than the primary's.
   *
   * A receiver gets the log of a timeline only if what was replayed is part of it. So a replica that has asked for the primary's timeline,
   * and is past the place where that was first seen, has replayed this timeline.
   */
  placeOf({ lsn, timeline }: Pick<Report, 'lsn' | 'timeline'>): Place | undefined {
    if (this.#first === undefined || timeline !== this.timeline) return undefined
    const place = placeAt(timeline, lsn)
    // same timeline, so the order of places is that of LSNs
    return timeline === 1 || place >= this.#first ? place : undefined
  }

  /** Returns the latest time from before which everything is shown by a replica at this place; `undefined` if that is unknown. */
  currentAt(place: Place): number | undefined {
    // Entries are of one timeline, so their order is that of LSNs. A place of an earlier timeline is below all of them.
    return this.#entries.findLast((entry) => entry.place <= place)?.at
  }
}

/** What is known of one server when a reader comes. */
export interface Standing {
  /** Reads on it cover this. `undefined` on the primary, on servers that are away, and while its log may be another one. */
  readonly place: Place | undefined
  /** How old what it shows may be. */
  readonly lagMs: number
  /** In rotation: reachable, and not too late. */
  readonly inRotation: boolean
  /** Used only if no other server will do: it stands by for a failover, and for reports. */
  readonly isSpare: boolean
  /** Reads that it runs for this process now. */
  readonly reads: number
}

/** Chooses the replica for a reader: one that covers its position, no spare one if possible, with the fewest reads. */
export function chooseReplica<Server extends Standing>(
  servers: readonly Server[],
  atLeast: Place | undefined,
): Server | undefined {
  const rank = (one: Server) => (one.isSpare ? 1e9 : 0) + one.reads
  return servers
    .filter(
      ({ inRotation, place }) =>
        inRotation && place !== undefined && (atLeast === undefined || reaches(place, atLeast)),
    )
    .reduce<Server | undefined>((best, one) => (best === undefined || rank(one) < rank(best) ? one : best), undefined)
}

/** Chooses the replica that lags least, for a reader that accepts what is no older than this. */
export function chooseStale<Server extends Standing>(
  servers: readonly Server[],
  staleMsMax: number,
): Server | undefined {
  return servers
    .filter(({ place, lagMs }) => place !== undefined && lagMs <= staleMsMax)
    .reduce<Server | undefined>((best, one) => (best === undefined || one.lagMs < best.lagMs ? one : best), undefined)
}

/** Parses the text of a `pg_snapshot`: `xmin:xmax:xid,…`. */
export function parseSnapshot(text: string): Snapshot {
  const [, xmax = '0', open = ''] = text.split(':')
  return { xmax: BigInt(xmax), open: open.split(',').filter(Boolean).map(BigInt) }
}
