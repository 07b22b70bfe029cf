import type { Scenario } from '../../src/load.ts'

export interface StepLoad {
  url: string
  /** Requests per second before and after the step. */
  before: number
  after: number
  beforeS: number
  /** Of all of it. */
  seconds: number
}

/** What the thread of the generator runs. Each second is a route, so that it has a percentile of its own. */
export default function scenarioOf({ url, before, after, beforeS, seconds }: StepLoad): Scenario {
  const began = performance.now()
  return {
    url,
    phases: [
      { seconds: beforeS, rate: before },
      { seconds: seconds - beforeS, rate: after },
    ],
    lateMsMax: 2_000,
    timeoutMs: 5_000,
    journeys: [
      {
        name: 'read',
        run(visitor) {
          const second = Math.floor((performance.now() - began) / 1_000)
          return visitor.request('GET', '/effects/1', { route: String(second), expected: [200] })
        },
      },
    ],
  }
}
