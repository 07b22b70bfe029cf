import type { Scenario } from '../../src/load.ts'
import type { LoadRequest } from './load.ts'

export interface Calm {
  url: string
  requests: readonly LoadRequest[]
  rate: number
  seconds: number
}

/** Arrivals at a rate that everybody can bear, in a thread of its own. On a machine that others use as well, late ones are no surprise. */
export default function scenarioOf({ url, requests, rate, seconds }: Calm): Scenario {
  return {
    url,
    phases: [{ seconds, rate }],
    lateMsMax: 50,
    journeys: [
      {
        name: 'request',
        run(visitor) {
          const { path, headers = {} } = requests[visitor.number % requests.length]!
          return visitor.request('GET', path, { route: 'GET', headers, expected: [200] })
        },
      },
    ],
  }
}
