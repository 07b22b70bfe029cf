import { subscribe as listenTo } from 'node:diagnostics_channel'
import { Type } from 'typebox'
import type { Data } from '../../src/app/define-module.ts'
import { handle, on } from '../../src/app/work.ts'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { defineEvent } from '../../src/primitives/events/events.ts'
import { defineJob } from '../../src/primitives/jobs/jobs.ts'
import { openPrimitives, type Primitives } from '../../src/runtime/primitives.ts'
import { openDatabase, openSignals } from '../../src/runtime/wire.ts'
import { type AppWork, addWork } from '../../src/runtime/work.ts'
import { rung1k } from '../../src/topology/rungs/1k.ts'

/** An app that only works: orders, whose effects are rows without any constraint, so that a doubled one shows. */
export const orderTables = `
  create schema orders;
  create table orders.placed (id bigint primary key);
  create table orders.effect (at bigint generated always as identity, kind text not null, order_id bigint not null, key text);
  create table orders.signal (name text not null)`

export const OrderPlaced = defineEvent('orders.placed', Type.Object({ id: Type.Integer() }))
export const ship = defineJob('orders.ship', Type.Object({ id: Type.Integer() }), {
  attempts: 1_000,
  backoff: { base: 5, max: 50 },
})
export const fail = defineJob('orders.fail', Type.Object({ id: Type.Integer() }), {
  attempts: 3,
  backoff: { base: 5, max: 50 },
})
/** Waits until a row says go; then writes. */
export const slow = defineJob('orders.slow', Type.Object({ id: Type.Integer() }))

export async function openOrders(
  connection: ConnectionConfig,
  events: 'table' | 'jetstream' = 'table',
): Promise<{
  primitives: Primitives
  data: Data
  close(): Promise<void>
}> {
  const database = openDatabase(
    {
      ...rung1k.data,
      writeConnectionsMax: 20,
      statementTimeoutMs: 60_000,
      lockTimeoutMs: 30_000,
      idleInTransactionTimeoutMs: 30_000,
    },
    connection,
  )
  const primitives = openPrimitives({
    databases: [{ database }],
    events,
    signals: await openSignals(database, async () => connection),
  })
  const close = () => primitives.close().then(() => database.close())
  return { primitives, data: primitives.data.forModule('orders'), close }
}

export function orderWork({ primitives, data }: { primitives: Primitives; data: Data }): AppWork {
  const options = { attempts: 1_000, backoff: { base: 5, max: 50 } }
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  addWork(
    work,
    'orders',
    [
      handle(ship, ({ id }, run) =>
        run.complete((tx) => tx`insert into orders.effect (kind, order_id) values ('ship', ${id})`),
      ),
      handle(fail, () => {
        throw new Error('this one always fails')
      }),
      handle(slow, async ({ id }) => {
        await data.write((tx) => tx`insert into orders.signal (name) values (${`begun ${process.pid}`})`)
        for (let go = false; !go; ) {
          const rows = await data.pool.query(`select from orders.signal where name = 'go'`)
          go = rows.rowCount! > 0
        }
        await data.write((tx) => tx`insert into orders.effect (kind, order_id) values ('slow', ${id})`)
      }),
      ...['billing', 'stats'].map((group) =>
        on(
          OrderPlaced,
          ({ payload, key }, tx) =>
            tx`insert into orders.effect (kind, order_id, key) values (${group}, ${payload.id}, ${key})`,
          { group, ...options },
        ),
      ),
    ],
    primitives,
  )
  return work
}

/** `claimed:3`: the process ends itself, as kill -9 does, when this moment comes for the third time. */
export function dieAt(text: string | undefined): void {
  const [at, count] = text?.split(':') ?? []
  let left = Number(count)
  if (at === undefined) return
  for (const channel of ['rung:job-moment', 'rung:event-moment']) {
    listenTo(channel, (message) => {
      if ((message as { at: string }).at !== at) return
      left -= 1
      if (left === 0) process.kill(process.pid, 'SIGKILL')
    })
  }
}
