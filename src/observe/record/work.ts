import { isOwnRoute } from '../../kernel/http-facts.ts'
import { type Frame, type Histogram, total } from './frame.ts'
import { distributed, quantile } from './groups.ts'

/** Work of one kind in the frames: how often it was done, and the seconds that it took, added up. */
export interface Done {
  /** `GET /articles/:slug`, or `job export`. */
  name: string
  /** `(jobs)` for jobs, whose modules are not recorded; `(none)` for paths that no module has. */
  module: string
  count: number
  seconds: number
  /** 0 where nothing was done. */
  p95Ms: number
}

/** Returns what the processes did: requests by route, jobs and deliveries by name. Pure. */
export function doneIn(frames: readonly Frame[]): Done[] {
  const requests = distributed(frames, 'http_request_duration_seconds', ['method', 'route', 'module'])
    .filter(({ labels }) => !isOwnRoute(labels.route!))
    .map(({ labels: { method, route, module = '(none)' }, value }) => ({
      ...{ name: `${method} ${route}`, module, ...timesOf(value) },
    }))
  const jobs = distributed(frames, 'job_duration_seconds', ['queue', 'name']).map(
    ({ labels: { name = '', queue = '' }, value }) => ({
      ...{ name: `job ${name || queue}`, module: '(jobs)', ...timesOf(value) },
    }),
  )
  return [...requests, ...jobs]
}

function timesOf(times: Histogram): Pick<Done, 'count' | 'seconds' | 'p95Ms'> {
  return { count: total(times), seconds: times.sum, p95Ms: 1_000 * (quantile(times, 0.95) ?? 0) }
}
