/** A part that is spread over zones, with the others of its kind: all web processes, all workers, all servers of the database. */
export interface Spread {
  readonly name: string
  readonly kind: string
}

/**
 * Returns the zone of each part. A part that runs keeps its zone. A new one gets the zone with the fewest parts of its kind; among
 * these the one with the fewest of all, then the one that is named first. Pure.
 */
export function zonesOf(
  zones: readonly string[],
  parts: readonly Spread[],
  held: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const placed = parts.flatMap((part) => {
    const zone = held.get(part.name)
    return zone !== undefined && zones.includes(zone) ? [{ ...part, zone }] : []
  })
  const count = (zone: string, kind?: string) =>
    placed.filter((one) => one.zone === zone && (kind === undefined || one.kind === kind)).length
  for (const part of parts) {
    if (placed.some(({ name }) => name === part.name)) continue
    const [zone] = zones.toSorted((a, b) => count(a, part.kind) - count(b, part.kind) || count(a) - count(b))
    if (zone !== undefined) placed.push({ ...part, zone })
  }
  return new Map(placed.map(({ name, zone }) => [name, zone]))
}
