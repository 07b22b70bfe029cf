import type { Scenario } from '../../src/load.ts'

export interface TourLoad {
  url: string
  /** Arrivals per second. */
  rate: number
  seconds: number
}

/** What the thread of the generator runs: four of five requests read, one writes. Each second is a route, so that it has figures of its own. */
export default function scenarioOf({ url, rate, seconds }: TourLoad): Scenario {
  const began = performance.now()
  const second = () => Math.floor((performance.now() - began) / 1_000)
  return {
    url,
    phases: [{ seconds, rate }],
    lateMsMax: 2_000,
    journeys: [
      {
        name: 'read',
        weight: 4,
        run: (visitor) => visitor.request('GET', '/entries/first', { route: `${second()} read`, expected: [200] }),
      },
      {
        name: 'write',
        run: (visitor) =>
          visitor.request('POST', '/entries', {
            route: `${second()} write`,
            body: { id: `${seconds} s, ${visitor.number}` },
            expected: [201],
          }),
      },
    ],
  }
}
