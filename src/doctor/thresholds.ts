import { slowMs } from '../observe/slow-statements.ts'

const day = 86_400

/** When something is worth a finding. Each is a judgement; a test can change it. */
export const thresholds = {
  /** A statement with this mean is reported. */
  slowMs,
  /** A statement with this share of the time of all statements is examined for indexes … */
  examinedShare: 0.01,
  /** … if it has run this often: a statement that somebody typed once or twice is not a load. */
  examinedCalls: 5,
  /** Statements examined, those that take the most time first. */
  examinedMax: 40,
  /** Below this cost (the planner's unit; about a millisecond of work) no index is worth its upkeep. */
  costMin: 100,
  /** The cost must fall to a third: the planner's estimates are often wrong by two, seldom by three. */
  costFactor: 3,
  /** Each of several indexes for one statement must by itself lower the cost by this factor. */
  costStepFactor: 1.5,
  /** A longer index must be cheaper than a shorter one by this factor, or the shorter one is taken. */
  costWorthAColumn: 2,
  /** A statement with this share of the time is reported even if each run is quick … */
  topShare: 0.25,
  /** … but not below this mean: a fast statement that runs often is what a database is for. */
  topMeanMs: 10,

  /** How long the counters must have run before "never used" means something: a week has the jobs of every weekday. */
  unusedSeconds: 7 * day,
  /** Smaller indexes are not worth anybody's time. */
  unusedBytes: 1024 ** 2,
  /** A longer index that is this many times bigger does not replace a shorter one: short scans would get slower. */
  redundantSizeFactor: 4,

  /** Dead rows, as a multiple of the number at which autovacuum starts. */
  deadRowsFactor: 2,
  deadRows: 10_000,
  /** Tables with fewer rows are planned well enough without statistics. */
  statisticsRows: 1_000,
  /** Autovacuum visits each database once a minute; after this time it should have run. */
  autovacuumSeconds: 600,
  /** Autovacuum freezes from 0.2 billion on, and writes stop at 2.1. */
  wraparoundLook: 500_000_000,
  wraparoundAct: 1_200_000_000,

  connectionsLook: 0.7,
  connectionsAct: 0.9,
  /** Both are below what the app's own sessions allow (15 s and 5 s), or nothing of the app would ever be seen. */
  idleInTransactionSeconds: 10,
  lockWaitSeconds: 1,
  transactionSeconds: 300,
  /** What the app saw longer ago may be fixed already. */
  seenSeconds: 7 * day,
}

export type Thresholds = typeof thresholds
