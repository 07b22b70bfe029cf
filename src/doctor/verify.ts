import type { Client } from '../engines/postgres/client.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { sqlState } from '../primitives/data/errors.ts'
import { createOn, type Shape, shapeId } from './candidates.ts'
import type { Experiment } from './experiments.ts'
import { type Facts, type Gap, type Index, marker, type Table } from './facts.ts'
import { explain, type Plan } from './plan.ts'
import { type Thresholds, thresholds } from './thresholds.ts'

/** The result of one experiment. */
export interface Trial {
  experiment: Experiment
  /** The planner's cost without and with the indexes. */
  before: number
  after: number
  /** The indexes that together lower the cost. */
  shapes: Shape[]
  /** Share of the table that was copied, 0 to 1. */
  sampleShare: number
}

export interface Verification {
  trials: Trial[]
  /** How statements run now, by id; those that the app saw, by text. */
  plans: Map<string, Plan>
  gaps: Gap[]
}

export interface VerifyOptions {
  limits?: Thresholds
  /** Tables up to this size are copied whole; of larger ones so much is copied. Copying 8 MiB takes some 0.1 s, and 20,000 rows are enough to tell a good index from a bad one. */
  copyBytesMax?: number
  /** No experiment is begun after this time, in ms. */
  budgetMs?: number
  onProgress?: (done: number, total: number, experiment: Experiment) => void
}

const defaultCopyBytesMax = 8 * 1024 ** 2
const roundsMax = 3
/** An ALTER TABLE waits no longer than this for an experiment. */
const trialMsMax = 10_000

/**
 * Tries indexes on copies. A table of the statement is copied into a temporary one, whole if it is small and otherwise as a
 * sample of its blocks; the copy gets the indexes that the table has, then one candidate after the other, and the planner
 * says what the statement would cost. The transaction is rolled back, so nothing remains, however it ends.
 *
 * The tables themselves are only read (ACCESS SHARE, as by any SELECT): a CREATE INDEX on them would make writers wait, even one
 * that is rolled back.
 */
export async function verify(
  client: Client,
  facts: Facts,
  experiments: readonly Experiment[],
  { limits = thresholds, copyBytesMax = defaultCopyBytesMax, budgetMs = 60_000, onProgress }: VerifyOptions = {},
): Promise<Verification> {
  const result: Verification = { trials: [], plans: new Map(), gaps: [] }
  const addGap = (reason: string) => result.gaps.push({ about: 'verification', reason })
  const obstacle = obstacleOf(facts)
  if (obstacle !== undefined) {
    if (experiments.length > 0) addGap(obstacle)
    return result
  }
  const isOver = lateAfter(budgetMs)
  const failures: string[] = []
  for (const [done, experiment] of experiments.entries()) {
    if (isOver()) {
      addGap(`no time was left for ${experiments.length - done} statements`)
      break
    }
    onProgress?.(done, experiments.length, experiment)
    try {
      const original = experiment.text((table) => table.sql)
      const plan = await rolledBack(client, facts, experiment, () => explain(client, original))
      if (experiment.statement) result.plans.set(experiment.statement.id, plan)
      if (plan.cost < limits.costMin || experiment.shapes.length === 0) continue
      const bench = { client, indexes: facts.indexes, limits, copyBytesMax, isLate: lateAfter(trialMsMax) }
      const trial = await rolledBack(client, facts, experiment, () => tryOut(bench, experiment))
      if (trial) result.trials.push(trial)
    } catch (error) {
      if (experiment.shapes.length > 0) failures.push(messageOf(error))
    }
  }
  if (failures.length > 0)
    addGap(`${failures.length} of ${experiments.length} statements could not be tried: ${failures[0]}`)
  return result
}

/** Plans a statement without an experiment. Returns undefined if it cannot be planned without its values. */
export async function planAlone(client: Client, facts: Facts, text: string): Promise<Plan | undefined> {
  if (obstacleOf(facts) !== undefined) return undefined
  return rolledBack(client, facts, { tables: [] }, () => explain(client, text)).catch(() => undefined)
}

function obstacleOf({ server }: Facts): string | undefined {
  if (server.versionNumber < 160_000)
    return `Postgres ${server.version} cannot plan a statement without its values (16 can)`
  return server.standby ? 'a standby takes no temporary tables' : undefined
}

async function rolledBack<T>(
  client: Client,
  { server }: Facts,
  { tables }: Pick<Experiment, 'tables'>,
  body: () => Promise<T>,
): Promise<T> {
  // Parallel plans would compare waiting, not work; and a copy is never read in parallel.
  await client.query(`begin; set local statement_timeout = '5s'; set local lock_timeout = '200ms';
    set local idle_in_transaction_session_timeout = '10s'; set local search_path = public;
    set local max_parallel_workers_per_gather = 0`)
  try {
    // Planning may run the app's own functions: never with the rights of a superuser.
    if (server.superuser) await client.query(`set local role ${tables[0]?.owner ?? server.owner}`)
    return await body()
  } finally {
    await client.query('rollback')
  }
}

interface Bench {
  client: Client
  indexes: readonly Index[]
  limits: Thresholds
  copyBytesMax: number
  isLate(): boolean
}

function lateAfter(ms: number): () => boolean {
  const endAt = systemClock.ticks() + ms
  return () => systemClock.ticks() > endAt
}

/** Adds the best index, then the best beside it, as long as each makes the statement clearly cheaper. */
async function tryOut(bench: Bench, experiment: Experiment): Promise<Trial | undefined> {
  const { client, indexes, limits, copyBytesMax } = bench
  let sampleShare = 1
  for (const table of experiment.tables) {
    const own = indexes.filter((index) => index.tableOid === table.oid && index.valid)
    sampleShare = Math.min(sampleShare, await copy(client, table, own, copyBytesMax))
  }
  const nameOf = (table: Table) => (experiment.tables.includes(table) ? copyOf(table) : table.sql)
  const text = experiment.text(nameOf, await likelyBound(client, experiment))
  const { cost: before } = await explain(client, text)
  const chosen = new Map<string, Shape>()
  let after = before
  for (let round = 0; round < roundsMax; round += 1) {
    const best = await cheapest(bench, text, experiment.shapes)
    if (!best || after / best.cost < limits.costStepFactor) break
    const name = `rung_doctor_${round}`
    await build(client, name, best.shape)
    chosen.set(name, best.shape)
    after = best.cost
  }
  if (before < limits.costMin || before / after < limits.costFactor) return undefined
  const { indexes: used } = await explain(client, text)
  const shapes = [...chosen].filter(([name]) => used.has(name)).map(([, shape]) => shape)
  return { experiment, before, after, shapes, sampleShare }
}

/** Returns the shape with the lowest cost; of those that are nearly as cheap the one with the fewest columns. */
async function cheapest({ client, limits, isLate }: Bench, text: string, shapes: readonly Shape[]) {
  const tried: { shape: Shape; cost: number }[] = []
  for (const shape of shapes) {
    if (isLate()) throw new Error(`it took more than ${trialMsMax / 1000} s`)
    await client.query('savepoint candidate')
    try {
      await build(client, 'rung_doctor_candidate', shape)
      const { cost, indexes } = await explain(client, text)
      if (indexes.has('rung_doctor_candidate')) tried.push({ shape, cost })
    } catch (error) {
      // No such index is possible: a type without an order, a function that is not immutable, values too long.
      if (!/^(42|54)/.test(sqlState(error) ?? '')) throw error
    }
    await client.query('rollback to savepoint candidate; release savepoint candidate')
  }
  const lowest = Math.min(...tried.map(({ cost }) => cost))
  const [best] = tried
    .filter(({ cost }) => cost <= lowest * limits.costWorthAColumn)
    .sort(
      ({ shape: a, cost: costA }, { shape: b, cost: costB }) =>
        a.keys.length - b.keys.length || costA - costB || (shapeId(a) < shapeId(b) ? -1 : 1),
    )
  return best
}

async function build(client: Client, name: string, shape: Shape): Promise<void> {
  await client.query(createOn(copyOf(shape.table), name, shape))
  // There are no statistics of an expression before there is an index on it.
  if (shape.keys.some((key) => key.includes('('))) await client.query(`analyze ${copyOf(shape.table)}`)
}

/** Returns the share of the table's blocks that the copy holds. */
async function copy(client: Client, table: Table, indexes: readonly Index[], bytesMax: number): Promise<number> {
  const target = copyOf(table)
  await client.query(`create temp table ${nameOfCopy(table)} (like ${table.sql} including statistics) on commit drop`)
  const share = Math.min(1, bytesMax / Math.max(1, table.sizeBytes))
  // Whole blocks, so that neighbouring rows stay together; the same ones each time.
  const sample = `tablesample system (${(share * 100).toFixed(6)}) repeatable (1)`
  await client.query(`insert ${marker} into ${target} select * from only ${table.sql} ${sample}`)
  for (const index of indexes) {
    // The planner relies on keys, for example for `group by id`.
    const key = /^(PRIMARY KEY|UNIQUE)/.test(index.constraintDefinition ?? '') && index.constraintDefinition
    const kind = index.unique ? 'unique index' : 'index'
    const method = index.definition.slice(index.definition.indexOf(' USING '))
    await client.query(key ? `alter table ${target} add ${key}` : `create ${kind} on ${target}${method}`)
  }
  await client.query(`analyze ${target}`)
  return share
}

async function likelyBound(client: Client, { filter }: Experiment): Promise<string | undefined> {
  if (!filter || filter.share > 1 / 3) return undefined
  const at = filter.side === 'above' ? 1 - filter.share : filter.share
  const { rows } = await client.query(
    `select ${marker} (percentile_disc(${at.toFixed(9)}) within group (order by ${filter.column}))::text as value from ${copyOf(filter.table)}`,
  )
  return rows[0].value === null ? undefined : filter.condition(rows[0].value)
}

function copyOf(table: Table): string {
  return `pg_temp.${nameOfCopy(table)}`
}

function nameOfCopy({ oid }: Table): string {
  return `rung_doctor_copy_${oid}`
}
