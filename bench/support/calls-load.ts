import type { Scenario } from '../../src/load.ts'

export interface CallsLoad {
  url: string
  seconds: number
  /** Requests per second. */
  rate: number
}

/** Two routes in turn that differ in one call. */
export default function scenarioOf({ url, seconds, rate }: CallsLoad): Scenario {
  return {
    url,
    phases: [{ seconds, rate }],
    lateMsMax: 2_000,
    journeys: [
      {
        name: 'ask',
        run(visitor) {
          const route = visitor.number % 2 === 0 ? 'alone' : 'calling'
          return visitor.request('GET', `/${route}`, { route, expected: [200] })
        },
      },
    ],
  }
}
