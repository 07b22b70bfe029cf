import { isRungError } from '../../src/kernel/errors.ts'
import { type LoadResult, runLoadInThreads, type Scenario } from '../../src/load.ts'
import { type LoadRequest, send } from './load.ts'
import { progress } from './report.ts'

export interface Calm {
  url: string
  requests: readonly LoadRequest[]
  rate: number
  seconds: number
}

/** What people get who do not wait for each other. `undefined` if the machine was too busy for a generator three times. */
export function runCalm(calm: Calm): Promise<LoadResult | undefined> {
  return attempted(() => runLoadInThreads(new URL(import.meta.url), calm))
}

export async function attempted(run: () => Promise<LoadResult>): Promise<LoadResult | undefined> {
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      return await run()
    } catch (error) {
      if (!isRungError(error, 'LOAD_BOTTLENECK')) throw error
      progress(`  ${error.message}`)
    }
  }
  return undefined
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
          return send(visitor, requests[visitor.number % requests.length]!)
        },
      },
    ],
  }
}
