/** The door for histories: what clients did and saw, and whether it keeps what was promised. `import { createRecorder } from 'rung/history'`. */
export { checkCaches } from './history/caches.ts'
export { checkHistory, counterExample, type HistoryOptions } from './history/check.ts'
export { type ConservationOptions, checkConservation } from './history/conservation.ts'
export { checkEffects } from './history/effects.ts'
export { readHistory } from './history/file.ts'
export { checkLeases } from './history/leases.ts'
export { checkLimits } from './history/limits.ts'
export { checkLostWrites } from './history/lost.ts'
export { type MinimiseOptions, minimise } from './history/minimise.ts'
export type { Anomaly, Kind, Operation, Outcome, RateLimit, Value, Verdict } from './history/operation.ts'
export { checkQueue } from './history/queue.ts'
export {
  type Begun,
  type Completion,
  createRecorder,
  type Invocation,
  type Recorder,
  type RecorderOptions,
} from './history/recorder.ts'
export { checkSessions, type SessionVerdicts } from './history/sessions.ts'
export { checkStaleness } from './history/staleness.ts'
export { tell } from './history/tell.ts'
export { checkUpdates } from './history/updates.ts'
export { checkWriters } from './history/writers.ts'
