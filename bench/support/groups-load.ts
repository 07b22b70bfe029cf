import type { Scenario } from '../../src/load.ts'

export interface GroupsLoad {
  url: string
  slugs: readonly string[]
  tokens: readonly string[]
  seconds: number
  /** Requests per second. */
  rate: number
}

/** Signed-in readers of the core's routes: each asks who they are, and one call for the authors. */
export default function scenarioOf({ url, slugs, tokens, seconds, rate }: GroupsLoad): Scenario {
  return {
    url,
    phases: [{ seconds, rate }],
    lateMsMax: 2_000,
    journeys: [
      {
        name: 'read',
        run(visitor) {
          const headers = { authorization: `Token ${visitor.pick(tokens)}` }
          const path = visitor.number % 2 === 0 ? `/api/articles/${visitor.pick(slugs)}` : '/api/articles?limit=20'
          return visitor.request('GET', path, { route: 'core', headers, expected: [200] })
        },
      },
    ],
  }
}
