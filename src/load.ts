/** The door for load: who comes, and what they get. `import { runLoad } from 'rung/load'`. */
export type { Phase } from './load/arrivals.ts'
export type { Answer } from './load/connections.ts'
export { createHistogram, type Histogram, type HistogramJson } from './load/histogram.ts'
export type { Second } from './load/live.ts'
export {
  type Generator,
  type LoadOptions,
  type LoadResult,
  type RouteResult,
  runLoad,
  runLoadInThreads,
} from './load/run.ts'
export { defineScenario, type Journey, type Scenario } from './load/scenario.ts'
export type { RequestOptions, Visitor } from './load/visitor.ts'
