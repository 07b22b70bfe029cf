import { Type } from 'typebox'
import { handle, on } from '../../../src/app/work.ts'
import type { ConnectionConfig } from '../../../src/engines/postgres/client.ts'
import { type Begun, createRecorder, type Recorder } from '../../../src/history.ts'
import { everyAlone, sleep } from '../../../src/kernel/clock.ts'
import { type Random, seededRandom } from '../../../src/kernel/random.ts'
import { currentScope, type Scope } from '../../../src/kernel/scope.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { defineEvent, groupLines } from '../../../src/primitives/events/events.ts'
import {
  type Moment,
  moment,
  type RunBegin,
  type RunDone,
  runBegin,
  runDone,
} from '../../../src/primitives/jobs/channels.ts'
import type { Queue } from '../../../src/primitives/jobs/contract.ts'
import { cronLook } from '../../../src/primitives/jobs/cron.ts'
import type { Item } from '../../../src/primitives/jobs/items.ts'
import { defineJob } from '../../../src/primitives/jobs/jobs.ts'
import { jobLines } from '../../../src/primitives/jobs/work.ts'
import { Worker } from '../../../src/primitives/jobs/worker.ts'
import { openPrimitives } from '../../../src/runtime/primitives.ts'
import { openSignals } from '../../../src/runtime/wire.ts'
import { type AppWork, addWork, subscribe } from '../../../src/runtime/work.ts'
import { openPostgres, openSystemTables } from '../../support/data.ts'
import { until } from '../../support/process.ts'
import type { Workload } from '../workload.ts'

const [keys, messagesEach, jobs, crons] = [3, 8, 6, 3]
const leaseMs = 300
/** A worker that is cut off hears nothing of its claims for so long. */
const cutOffMs = 4 * leaseMs

const tables = `
  create schema orders;
  create table orders.effect (kind text not null, name text not null);
  create table orders.checked (name text constraint once unique deferrable initially deferred)`

const options = { attempts: 1_000, backoff: { base: 5, max: 50 } }
const Placed = defineEvent('orders.placed', Type.Object({ name: Type.String() }))
const ship = defineJob('orders.ship', Type.Object({ name: Type.String() }), options)
const groups = ['billing', 'stats'] as const

/**
 * Two workers handle jobs and events that several publish, some in transactions that fail. One worker is cut off from the queue for a while:
 * its claims end, and what it does afterwards must not count.
 */
const queue: Workload = {
  promises: ['queue', 'one-effect', 'fenced-completion'],
  async open(postgres) {
    const { database: first, connection } = await openSystemTables(postgres)
    const second = await openPostgres(postgres, { connection, connectionsMax: { read: 5, write: 10 } })
    const stage: Stage = {
      recorder: createRecorder(),
      random: seededRandom(0),
      isCutOff: false,
      claims: new Map(),
      items: new WeakMap(),
      deliveries: new Map(),
    }
    const nodes = [
      await openNode(first, connection, stage, true),
      await openNode(second, connection, stage, false),
    ] as const
    const [{ data, store }] = nodes
    await data.pool.query(tables)
    await nodes[0].subscribe()
    const workers = nodes.map((node) => node.worker())
    const endNoting = noteRuns(stage)
    for (const worker of workers) worker.start()
    // As upkeep does, more often.
    const endReaping = everyAlone(50, () => nodes[1].store.queue.reap(60_000).then(() => {}))
    return {
      async run(seed, recorder) {
        Object.assign(stage, { recorder, random: seededRandom(seed), isCutOff: true })
        const restored = sleep(cutOffMs).then(() => {
          stage.isCutOff = false
        })
        const names = (kind: string, count: number) => Array.from({ length: count }, (_, n) => `${kind} ${seed}.${n}`)
        await Promise.all([
          ...names('key', keys).map((key, n) => publish(key, nodes[n % 2]!, stage)),
          ...names('job', jobs).map((name, n) => enqueue(name, nodes[n % 2]!, stage)),
          fireOnce(names('cron', crons), nodes, stage),
          restored,
        ])
        const isDone = async () =>
          (await store.queue.count()).every((one) => one.waiting + one.delayed + one.running === 0)
        await until(isDone, 'all is worked off')
        await lookAtEffects(nodes[0], seed, stage)
      },
      async close() {
        await Promise.all(workers.map((worker) => worker.stop(1_000)))
        await endReaping()
        endNoting()
        for (const node of nodes) await node.close()
      },
    }
  },
}
export default queue

interface Stage {
  recorder: Recorder
  random: Random
  isCutOff: boolean
  /** How often each item was claimed, by its number. */
  claims: Map<number, number>
  /** What runs in a scope. */
  items: WeakMap<Scope, Item>
  /** Those that run, by the number of their item. */
  deliveries: Map<number, Begun>
}

type Node = Awaited<ReturnType<typeof openNode>>

async function openNode(database: Database, connection: ConnectionConfig, stage: Stage, isCutOff: boolean) {
  const primitives = openPrimitives({
    databases: [{ database }],
    signals: await openSignals(database, async () => connection),
  })
  const { main: store } = primitives.stores
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  const handled = [
    handle(ship, async ({ name }, run) => {
      const item = stage.items.get(currentScope()!)!
      // It is held up until somebody else has the job.
      while (isCutOff && stage.isCutOff && stage.claims.get(run.id) === 1) await sleep(10)
      const completing = stage.recorder.begin({ kind: 'complete', session: name, key: `${name}`, token: item.token })
      const completed = run.complete((tx) => tx`insert into orders.effect values ('ship', ${name})`)
      await completed.then(
        () => completing.ok(),
        (error) => {
          completing.fail(error)
          throw error
        },
      )
    }),
    ...groups.map((group) =>
      on(
        Placed,
        async ({ id, payload: { name }, key, attempt }, tx) => {
          const delivering = stage.recorder.begin({ kind: 'deliver', session: group, key: key!, value: name })
          stage.deliveries.set(id, delivering)
          await tx`insert into orders.effect values (${group}, ${name})`
          await sleep(stage.random() * 10)
          if (attempt > 1 || stage.random() > 0.3) return
          delivering.fail()
          throw new Error('the first time')
        },
        // Long enough for the next of the key to come.
        { ...options, backoff: { base: 50, max: 100 }, group },
      ),
    ),
  ]
  addWork(work, 'orders', handled, primitives)
  return {
    data: primitives.data.forModule('orders'),
    root: primitives.data.forModule(undefined),
    store,
    subscribe: () => subscribe(work, primitives),
    worker() {
      const { queue } = store
      const lines = [...jobLines(work.jobs), ...groupLines(work.consumed)]
      return new Worker({
        queue: isCutOff ? { ...queue, ...cutOff(queue, stage) } : queue,
        lines,
        name: isCutOff ? 'the cut off' : 'the other',
        database,
        leaseMs,
        pollMsMax: 50,
      })
    },
    close: () => primitives.close().then(() => database.close()),
  }
}

/** What a worker asks of the queue by itself fails meanwhile. */
function cutOff({ extend, settle }: Queue, stage: Stage): Pick<Queue, 'extend' | 'settle'> {
  const ifReached = async <T>(ask: () => Promise<T>): Promise<T> => {
    if (stage.isCutOff) throw new Error('the queue cannot be reached')
    return ask()
  }
  return {
    extend: (held, ms) => ifReached(() => extend(held, ms)),
    settle: (outcomes) => ifReached(() => settle(outcomes)),
  }
}

/** Records claims of jobs, and how deliveries end. Returns what ends it. */
function noteRuns(stage: Stage): () => void {
  const onMoment = (message: unknown) => {
    const { at, item } = message as { at: Moment; item: Item }
    if (at !== 'claimed') return
    stage.claims.set(item.id, (stage.claims.get(item.id) ?? 0) + 1)
    if (item.name !== ship.name) return
    const { name } = item.payload as { name: string }
    stage.recorder.begin({ kind: 'claim', session: name, key: name, token: item.token }).ok()
  }
  const onBegin = (message: unknown) => {
    const { item, scope } = message as RunBegin
    stage.items.set(scope, item)
  }
  const onDone = (message: unknown) => {
    const { item, outcome } = message as RunDone
    const delivering = stage.deliveries.get(item.id)
    stage.deliveries.delete(item.id)
    if (outcome === 'done') delivering?.ok()
    else delivering?.info(outcome)
  }
  const listeners = [
    [moment, onMoment],
    [runBegin, onBegin],
    [runDone, onDone],
  ] as const
  for (const [channel, listener] of listeners) channel.subscribe(listener)
  return () => {
    for (const [channel, listener] of listeners) channel.unsubscribe(listener)
  }
}

/** One after the other, so that their order is known. */
async function publish(key: string, { data }: Node, { recorder, random }: Stage): Promise<void> {
  for (let n = 1; n <= messagesEach; n += 1) {
    const name = `message ${n} of ${key}`
    const fails = random() < 0.3
    const publishing = recorder.begin({ kind: 'publish', session: key, key, value: name })
    const published = data.write(async (tx) => {
      tx.publish(Placed, { name }, { key })
      // What fails with the commit, and not before.
      for (let times = fails ? 2 : 1; times > 0; times -= 1) await tx`insert into orders.checked values (${name})`
    })
    await published.then(() => publishing.ok(), publishing.fail)
  }
}

async function enqueue(name: string, { data }: Node, { recorder }: Stage): Promise<void> {
  const sending = recorder.begin({ kind: 'send', session: name, key: name })
  await data.write((tx) => tx.enqueue(ship, { name }))
  sending.ok({ value: 'enqueued' })
}

/** Their time came once in the last year, and all nodes look at once. */
async function fireOnce(names: readonly string[], nodes: readonly Node[], { recorder }: Stage): Promise<void> {
  const pattern = '0 0 1 1 *'
  await nodes[0]!.data.pool.query(
    `insert into rung.cron (name, last_at, times) select unnest($1::text[]), now() - interval '1 year', $2`,
    [names, `${pattern} UTC`],
  )
  const entries = names.map((name) => ({ name, pattern, timeZone: 'UTC', job: ship as never, input: { name } }))
  const firing = names.map((name) => recorder.begin({ kind: 'send', session: name, key: name }))
  await Promise.all(nodes.flatMap(({ root, store }) => cronLook(entries, root, store.database)()))
  for (const one of firing) one.ok({ value: 'enqueued' })
}

async function lookAtEffects({ data }: Node, seed: number, { recorder }: Stage): Promise<void> {
  const ends = [
    ...groups.map((group) => ({ kind: 'drain', session: group, key: 'all' }) as const),
    { kind: 'effects', session: 'ship', key: 'all' } as const,
  ]
  for (const end of ends) {
    const looking = recorder.begin(end)
    const rows = await data.write(
      (tx) =>
        tx<{ name: string }>`select name from orders.effect where kind = ${end.session} and name like ${`% ${seed}.%`}`,
    )
    looking.ok({ values: rows.map(({ name }) => name) })
  }
}
