/** The door for histories: what clients did and saw, and whether it keeps what was promised. `import { createRecorder } from 'rung/history'`. */
export { type ConservationOptions, checkConservation } from './history/conservation.ts'
export { checkEffects } from './history/effects.ts'
export { readHistory } from './history/file.ts'
export { checkLostWrites } from './history/lost.ts'
export type { Anomaly, Kind, Operation, Outcome, Value, Verdict } from './history/operation.ts'
export {
  type Begun,
  type Completion,
  createRecorder,
  type Invocation,
  type Recorder,
  type RecorderOptions,
} from './history/recorder.ts'
export { checkSessions, type SessionVerdicts } from './history/sessions.ts'
