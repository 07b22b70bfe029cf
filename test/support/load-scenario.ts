import type { Scenario } from '../../src/load.ts'

/** In a thread, as its own module. */
export default function scenarioOf({ url, rate, seconds }: { url: string; rate: number; seconds: number }): Scenario {
  return {
    url,
    phases: [{ seconds, rate }],
    arrivals: 'even',
    lateMsMax: 1_000,
    journeys: [
      { name: 'one', run: (visitor) => visitor.request('GET', `/number/${visitor.number}`, { route: 'GET /number' }) },
    ],
  }
}
