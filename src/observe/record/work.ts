import { isOwnRoute } from '../../kernel/http-facts.ts'
import { type Frame, total } from './frame.ts'
import { distributed } from './groups.ts'

/** Work of one kind in the frames: how often it was done, and the seconds that it took, added up. */
export interface Done {
  /** `GET /articles/:slug`, or `job export`. */
  name: string
  /** `(jobs)` for jobs, whose modules are not recorded; `(none)` for paths that no module has. */
  module: string
  count: number
  seconds: number
}

/** Returns what the processes did: requests by route, jobs and deliveries by name. Pure. */
export function doneIn(frames: readonly Frame[]): Done[] {
  const requests = distributed(frames, 'http_request_duration_seconds', ['method', 'route', 'module'])
    .filter(({ labels }) => !isOwnRoute(labels.route!))
    .map(({ labels: { method, route, module = '(none)' }, value }) => ({
      ...{ name: `${method} ${route}`, module, count: total(value), seconds: value.sum },
    }))
  const jobs = distributed(frames, 'job_duration_seconds', ['queue', 'name']).map(
    ({ labels: { name = '', queue = '' }, value }) => ({
      ...{ name: `job ${name || queue}`, module: '(jobs)', count: total(value), seconds: value.sum },
    }),
  )
  return [...requests, ...jobs]
}
