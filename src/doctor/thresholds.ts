import { slowMs } from '../observe/slow-statements.ts'

const mebibyte = 1024 ** 2
const day = 86_400

/** When something is worth a finding. Each is a judgement; here they can all be seen and, in a test, changed. */
export const thresholds = {
  /** A statement this slow on average is told. */
  slowMs,
  /** A statement with this share of all statement time is examined for indexes … */
  examinedShare: 0.01,
  /** … once it has run so often: what somebody typed once or twice is not a load. */
  examinedCalls: 5,
  /** Statements examined, those that take the most time first: behind them little is left to gain. */
  examinedMax: 40,
  /** Below this cost by the planner's count (about a millisecond of work) no index is worth its upkeep. */
  costMin: 100,
  /** The cost must fall to a third: the planner's estimates are often wrong by two, seldom by three. */
  costFactor: 3,
  /** One of several indexes for one statement must by itself gain this much. */
  costStepFactor: 1.5,
  /** A longer index must be cheaper than a shorter one by this factor, or the shorter one is taken. */
  costWorthAColumn: 2,
  /** A statement that takes this share of the time is told even if each run is quick … */
  topShare: 0.25,
  /** … but not below this mean: a fast statement that runs often is what a database is for. */
  topMeanMs: 10,

  /** How long the counters must have run before "never used" means something: a week has every weekday's jobs in it. */
  unusedSeconds: 7 * day,
  /** Smaller indexes are not worth anybody's time. */
  unusedBytes: mebibyte,
  /** A longer index this many times bigger than its beginning does not replace it: short scans would get slower. */
  redundantSizeFactor: 4,

  /** Dead rows, as a multiple of the number at which autovacuum starts. */
  deadRowsFactor: 2,
  deadRows: 10_000,
  bloatShare: 0.5,
  bloatBytes: 64 * mebibyte,
  /** Tables with fewer rows are planned well enough without statistics. */
  statisticsRows: 1_000,
  /** Autovacuum comes once a minute to each database; after this time it should have been there. */
  autovacuumSeconds: 600,
  /** Autovacuum freezes from 0.2 billion on and everything stops at 2.1. */
  wraparoundLook: 500_000_000,
  wraparoundAct: 1_200_000_000,
  /** A table that is "big": reading all of it shows. */
  fullScanBytes: 8 * mebibyte,
  fullScans: 100,
  /** Only scans that on average read this many rows were full ones. */
  fullScanRows: 10_000,

  connectionsLook: 0.7,
  connectionsAct: 0.9,
  /** Both below what the app's own sessions allow (15 s and 5 s), or nothing of the app would ever be seen. */
  idleInTransactionSeconds: 10,
  transactionSeconds: 300,
  lockWaitSeconds: 1,
  /** Share of page reads that miss Postgres' own cache, over at least this many reads. */
  cacheMissShare: 0.05,
  cacheReads: 1_000_000,
  /** What the app saw longer ago may be mended already. */
  seenSeconds: 7 * day,
}

export type Thresholds = typeof thresholds
