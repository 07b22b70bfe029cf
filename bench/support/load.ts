import { runLoadInThreads, type Scenario, type Visitor } from '../../src/load.ts'

/** So many requests over so many connections, each of which sends the next one when it has its answer. */
export interface LoadJob {
  /** `http://127.0.0.1:3000` */
  url: string
  /** Taken in turn. */
  requests: readonly LoadRequest[]
  count: number
  connections: number
}

export interface LoadRequest {
  /** Default GET. */
  method?: string
  path: string
  headers?: Record<string, string>
  body?: object
}

/**
 * Sends requests from a thread of its own, so that they do not wait for the bench's work. It measures cost, not latency.
 * @returns how many answers were other than 200
 */
export async function sendRequests(job: LoadJob): Promise<{ failures: number }> {
  const { all } = await runLoadInThreads(new URL(import.meta.url), job)
  const kinds = Object.keys(all.failures)
  const other = kinds.find((kind) => !/^\d+$/.test(kind))
  if (other !== undefined) throw new Error(`${job.url}: ${all.failures[other]} requests ended as "${other}"`)
  return { failures: kinds.reduce((sum, kind) => sum + all.failures[kind]!, 0) }
}

/** Sends one of them; its route is its method. */
export function send(visitor: Visitor, { method = 'GET', path, headers = {}, body }: LoadRequest): Promise<unknown> {
  const options = { route: method, headers, expected: [200, 201] }
  return visitor.request(method, path, body ? { ...options, body } : options)
}

/** What the thread runs. */
export default function scenarioOf({ url, requests, count, connections }: LoadJob): Scenario {
  return {
    url,
    closed: { visitors: connections, journeys: count },
    lateMsMax: Number.POSITIVE_INFINITY, // in a closed loop nothing is due
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
