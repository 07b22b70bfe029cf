/** The status with which an app refuses requests of one address or user that are too many. */
export const limitedStatus = '429'

export const limitedText = "429: the app's rate limits refuse the load; start it with RUNG_LIMITS=off."

/** Returns the share of requests that limits refused. Pure. */
export function limitedShare(count: number, failures: Readonly<Record<string, number>>): number {
  return count === 0 ? 0 : (failures[limitedStatus] ?? 0) / count
}
