import type { Scenario } from '../../src/load.ts'
import type { LoadRequest } from './load.ts'

export interface Overload {
  url: string
  important: readonly LoadRequest[]
  other: readonly LoadRequest[]
  /** Arrivals in a second. */
  importantRate: number
  otherRate: number
  seconds: number
}

/** Two kinds of visitors, each a route. An answer counts as good if it comes within a second. */
export default function scenarioOf({ url, important, other, importantRate, otherRate, seconds }: Overload): Scenario {
  const journey = (name: string, requests: readonly LoadRequest[], weight: number) => ({
    name,
    weight,
    run: (visitor: Parameters<Scenario['journeys'][number]['run']>[0]) => {
      const { method = 'GET', path, headers = {} } = requests[visitor.number % requests.length]!
      return visitor.request(method, path, { route: name, headers, expected: [200] })
    },
  })
  return {
    url,
    phases: [{ seconds, rate: importantRate + otherRate }],
    timeoutMs: 1_000,
    connectionsMax: 4_000,
    lateMsMax: 300,
    journeys: [
      ...(importantRate > 0 ? [journey('important', important, importantRate)] : []),
      ...(otherRate > 0 ? [journey('other', other, otherRate)] : []),
    ],
  }
}
