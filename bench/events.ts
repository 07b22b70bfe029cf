import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { connectOnce } from '../src/engines/postgres/client.ts'
import { type EmbeddedPostgres, startEmbedded } from '../src/engines/postgres/embedded.ts'
import { machineTicks } from '../src/kernel/clock.ts'
import { migrate } from '../src/migrations/migrate.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import { subscribe } from '../src/runtime/work.ts'
import { type TestNats, testNats } from '../test/support/nats.ts'
import { OrderPlaced, openOrders, orderTables } from '../test/support/order-work.ts'
import type { Bench } from './run.ts'
import { eventsWork, follow, groups } from './support/events-work.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'

const carriers = ['table', 'jetstream'] as const
type Carrier = (typeof carriers)[number]

/** Events one after the other, with nothing else to do. */
const idleEvents = 100
const idleMs = 20
const bulkEvents = 5_000
const eventsOfCommit = 50
const requests = 200
/** Published for teams that moved such work off the request: 78 % less blocking. */
const targets = { latencyP99Ms: 250, saved: 0.78 }

/** Events over the queues of the database and over a broker, and the same handlers inside the request, on one server, in turn. */
const bench: Bench = {
  claim:
    'an event is handled within 250 ms of its commit (p99), and a request that publishes waits less than 22 % of one that does the work',
  async run({ json, rounds = 3 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const server = await startEmbedded({ root: dir, connectionsMax: 100 })
    const nats = await testNats()
    try {
      return await measure(server, nats, rounds, json)
    } finally {
      await nats.stop()
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function measure(server: EmbeddedPostgres, nats: TestNats, rounds: number, json: boolean): Promise<object> {
  const { connection } = server
  await migrate({ connection, migrations: systemMigrations })
  const client = await connectOnce(connection)
  await client.query(orderTables)
  const version = (await client.query('show server_version')).rows[0].server_version
  await client.end()
  const found = {
    latencyMs: { table: [] as number[], jetstream: [] as number[] },
    p99Ms: { table: [] as number[], jetstream: [] as number[] },
    handledPerS: { table: [] as number[], jetstream: [] as number[] },
    requestMs: { table: [] as number[], jetstream: [] as number[], inside: [] as number[] },
  }
  let next = 0
  for (let round = 0; round < rounds; round += 1) {
    for (const carrier of round % 2 === 0 ? carriers : [...carriers].reverse()) {
      const side = await openSide(server, nats, carrier)
      const latencies = (await side.idle(next)).sort((a, b) => a - b)
      next += idleEvents
      found.latencyMs[carrier].push(latencies[Math.floor(latencies.length / 2)]!)
      found.p99Ms[carrier].push(latencies[Math.floor(latencies.length * 0.99)]!)
      found.handledPerS[carrier].push(await side.bulk(next))
      next += bulkEvents
      const durations = await side.requests(next)
      next += 2 * requests
      found.requestMs[carrier].push(durations.published)
      found.requestMs.inside.push(durations.inside)
      await side.close()
    }
    if (!json) progress(`round ${round + 1} of ${rounds}`)
  }
  const median = (values: readonly number[]) => spread(values).median
  const saved = (carrier: Carrier) => 1 - median(found.requestMs[carrier]) / median(found.requestMs.inside)
  const result = {
    claim: bench.claim,
    facts: machineFacts(version),
    rounds,
    targets,
    idle: { p50Ms: map(found.latencyMs), p99Ms: map(found.p99Ms) },
    handledPerS: map(found.handledPerS),
    handledRatio: twoDigits(median(found.handledPerS.jetstream) / median(found.handledPerS.table)),
    requestMs: { ...map(found.requestMs), inside: rounded(spread(found.requestMs.inside)) },
    saved: { table: twoDigits(saved('table')), jetstream: twoDigits(saved('jetstream')) },
  }
  if (!json) {
    const rows = carriers.map((carrier) => [
      carrier,
      inWords(spread(found.latencyMs[carrier])),
      inWords(spread(found.p99Ms[carrier])),
      inWords(spread(found.handledPerS[carrier])),
      inWords(spread(found.requestMs[carrier])),
      `${Math.round(saved(carrier) * 100)} %`,
    ])
    progress(table([['events over', 'idle p50 ms', 'p99 ms', 'handled/s', 'request ms', 'saved'], ...rows]))
    progress(`with the handlers inside, a request takes ${inWords(spread(found.requestMs.inside))} ms`)
  }
  return result
}

const twoDigits = (value: number) => Math.round(value * 100) / 100

const map = (values: Record<Carrier, readonly number[]>) => ({
  table: rounded(spread(values.table)),
  jetstream: rounded(spread(values.jetstream)),
})

/** A process that publishes, and one that handles. */
async function openSide({ connection }: EmbeddedPostgres, nats: TestNats, carrier: Carrier) {
  const orders = await openOrders(connection, carrier)
  await subscribe(eventsWork(orders), orders.primitives)
  const url = carrier === 'jetstream' ? nats.url : undefined
  const { main } = orders.primitives.stores

  async function worker(told: boolean): Promise<ChildProcess> {
    const child = fork(
      path.join(import.meta.dirname, 'support/events-worker.ts'),
      [JSON.stringify({ connection, url, told })],
      {
        execArgv: ['--conditions=rung-source'],
      },
    )
    await once(child, 'message')
    return child
  }
  async function stop(child: ChildProcess): Promise<void> {
    const gone = once(child, 'exit')
    child.send('end')
    await gone
  }
  const publish = (ids: readonly number[]) =>
    orders.data.write(async (tx) => {
      await tx`insert into orders.placed (id) select unnest(${ids}::bigint[])`
      for (const id of ids) tx.publish(OrderPlaced, { id })
    })
  const upTo = (first: number, count: number) => Array.from({ length: count }, (_, at) => first + at + 1)

  return {
    /** @returns from the answer of the publisher's commit to that of the last handler's, as the publisher hears it, ms */
    async idle(first: number): Promise<number[]> {
      const child = await worker(true)
      const waiting = new Map<number, { left: number; done: () => void }>()
      child.on('message', (id) => {
        const one = waiting.get(id as number)
        if (!one) return
        one.left -= 1
        if (one.left === 0) one.done()
      })
      async function handled(id: number): Promise<number> {
        const { promise, resolve } = Promise.withResolvers<void>()
        waiting.set(id, { left: groups.length, done: resolve })
        await publish([id])
        const committedAt = machineTicks()
        await promise
        return machineTicks() - committedAt
      }
      const latencies: number[] = []
      const [warmUp, ...ids] = upTo(first, idleEvents)
      await handled(warmUp!) // until it has its lease
      for (const id of ids) {
        latencies.push(await handled(id))
        await wait(idleMs)
      }
      await stop(child)
      return latencies
    },

    /** @returns how many deliveries of a backlog are handled in a second, by one worker */
    async bulk(first: number): Promise<number> {
      const ids = upTo(first, bulkEvents)
      for (let at = 0; at < ids.length; at += eventsOfCommit) await publish(ids.slice(at, at + eventsOfCommit))
      const child = await worker(false)
      const startedAt = machineTicks()
      const client = await connectOnce(connection)
      for (let done = 0; done < bulkEvents * groups.length * 3; await wait(50)) {
        done = (await client.query('select count(*)::int as n from orders.effect where order_id > $1', [first])).rows[0]
          .n
      }
      const seconds = (machineTicks() - startedAt) / 1_000
      await client.end()
      await stop(child)
      return (bulkEvents * groups.length) / seconds
    },

    /** @returns how long a request takes that publishes, and one that does the work of the handlers itself, one after the other; medians, ms */
    async requests(first: number): Promise<{ published: number; inside: number }> {
      const durations = { published: [] as number[], inside: [] as number[] }
      for (const id of upTo(first, requests)) {
        let startedAt = machineTicks()
        await publish([id])
        durations.published.push(machineTicks() - startedAt)
        startedAt = machineTicks()
        await orders.data.write((tx) => tx`insert into orders.placed (id) values (${id + requests})`)
        for (const group of groups) await orders.data.write((tx) => follow(tx, group, id + requests))
        durations.inside.push(machineTicks() - startedAt)
      }
      const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!
      return { published: median(durations.published), inside: median(durations.inside) }
    },

    async close(): Promise<void> {
      // What was published by requests is not handled by the next side.
      for (const group of groups) await main.outbox.drop(group)
      await orders.close()
    },
  }
}
