import { advance, furthest, parsePlace, positionFromJson, positionToJson } from '../../kernel/position.ts'
import type { Chain } from './contract.ts'

/**
 * Joins chains of one database that follow each other, whatever the order and the number in which a broker brought them. Pure.
 * @returns the fewest chains, by their numbers; none overlaps another
 */
export function joinChains(chains: readonly Chain[]): Chain[] {
  const joined: (Chain & { events: Chain['events'][number][] })[] = []
  for (const chain of chains.toSorted((a, b) => a.after - b.after)) {
    const before = joined.at(-1)
    const end = before?.events.at(-1)?.n ?? Number.NEGATIVE_INFINITY
    if (before && chain.history === before.history && chain.after <= end) {
      before.events.push(...chain.events.filter(({ n }) => n > end))
      before.place = chain.place
    } else joined.push({ ...chain, events: [...chain.events] })
  }
  return joined
}

/** Adds to each event the position of its own commit, for groups in another database: their queue does not show it. Pure. */
export function withPlaces(chain: Chain): Chain {
  const own = advance(new Map(), chain.source, parsePlace(chain.place)!)
  const events = chain.events.map((event) => {
    const seen = event.context.position
    const position = positionToJson(seen ? furthest(own, positionFromJson(seen)) : own)
    return { ...event, context: { ...event.context, position } }
  })
  return { ...chain, events }
}
