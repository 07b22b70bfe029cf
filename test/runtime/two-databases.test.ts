import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { metrics } from '../../src/observe/metrics.ts'
import { type ReadRouted, readRouted } from '../../src/primitives/data/channels.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import app, { gates } from '../support/apps/two-databases/app.ts'
import { noNats, type TestNats, testNats } from '../support/nats.ts'
import { type TestPostgres, testPostgres, urlOf, withTempDir } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { startPair } from '../support/standby.ts'

let postgres: TestPostgres
let nats: TestNats | undefined
before(async () => {
  postgres = await testPostgres()
  if (!noNats) nats = await testNats()
})
after(async () => {
  await nats?.stop()
  await postgres.stop()
})

/** What carries events between the databases. */
const carriers = ['table', 'jetstream'] as const
const skipOf = (events: (typeof carriers)[number]) => ({ skip: events === 'table' ? false : noNats })
const settingsOf = (events: (typeof carriers)[number]): Record<string, string> =>
  events === 'table' ? {} : { RUNG_EVENTS: events, RUNG_NATS_URL: nats!.url }

const json = { 'content-type': 'application/json' }
const post = async <T>(url: string, body: object = {}, headers: Record<string, string> = {}) => {
  const response = await fetch(url, { method: 'POST', headers: { ...json, ...headers }, body: JSON.stringify(body) })
  return {
    status: response.status,
    cookie: response.headers.get('set-cookie') ?? '',
    replayed: response.headers.has('idempotency-replayed'),
    body: (await response.json()) as T,
  }
}
const get = async <T>(url: string, headers: Record<string, string> = {}) =>
  (await (await fetch(url, { headers })).json()) as T
const place = async (url: string, body = {}) => (await post<{ id: number }>(`${url}/orders`, body)).body.id

const billingAt = (connection: ConnectionConfig) => ({
  name: 'billing',
  url: urlOf(connection),
  modules: ['billing'],
})

async function rowsOf(connection: ConnectionConfig, text: string): Promise<unknown[]> {
  const client = await connectOnce(connection)
  return client
    .query({ text, rowMode: 'array' })
    .then(({ rows }) => rows.map(([first]) => first))
    .finally(() => client.end())
}

for (const events of carriers)
  describe(`an app over two databases, with events over ${events}`, skipOf(events), () => {
    let main: ConnectionConfig
    let other: ConnectionConfig
    let nodes: [Running, Running]
    before(async () => {
      ;[main, other] = [await postgres.createDatabase(), await postgres.createDatabase()]
      const start = () =>
        bootForTest(
          app,
          postgres,
          { databases: [billingAt(other)] },
          [(http, { data, primitives }) => void metrics(http, data, primitives)],
          { DATABASE_URL: urlOf(main), ...settingsOf(events) },
        )
      nodes = [await start(), await start()]
    })
    after(async () => {
      for (const node of nodes) await node.stop()
    })
    const [one, two] = [() => nodes[0].url, () => nodes[1].url]

    it("has the tables of a module where its data is, and Rung's own in both", async () => {
      const schemas = `select distinct schemaname from pg_tables where schemaname in ('orders', 'billing', 'rung') order by 1`
      assert.deepEqual(await rowsOf(main, schemas), ['orders', 'rung'])
      assert.deepEqual(await rowsOf(other, schemas), ['billing', 'rung'])
    })

    it('delivers events and jobs across them, both ways, and does each once', async () => {
      const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => place(n % 2 ? one() : two())))
      for (const id of ids) {
        await until(async () => (await get<number[]>(`${one()}/orders/${id}/paid`)).length > 0, `order ${id} is paid`)
        await until(
          async () => (await get<string[]>(`${one()}/reminders/${id}`)).includes('sent'),
          'the reminder is sent',
        )
        const [invoice, ...more] = await get<number[]>(`${one()}/invoices/${id}`)
        assert.deepEqual(more, [])
        assert.deepEqual(await get(`${two()}/orders/${id}/paid`), [invoice])
        assert.deepEqual(await get(`${two()}/reminders/${id}`), ['sent', 'tried'])
      }
      const done = `select count(*)::int from rung.foreign_claim where done`
      // Over a broker a delivery lies in the database of its group; a job stays where it was enqueued.
      const claims = events === 'table' ? [20, 40] : [0, 20]
      await until(
        async () => Number((await rowsOf(main, done))[0]) >= claims[0]!,
        'orders was told of claims of the other database',
      )
      assert.ok(Number((await rowsOf(other, done))[0]) >= claims[1]!)
    })

    it('refuses a write of one database inside a write of the other', async () => {
      const id = await place(one())
      const { status, body } = await post<{ code: string }>(`${one()}/wrong/${id}`)
      assert.deepEqual([status, body.code], [500, 'CALL_IN_TRANSACTION'])
      assert.deepEqual(await get(`${one()}/orders/${id}`), { note: 'a note' })
    })

    it('follows the log of both: what one node invalidates is not served by the other to the session that wrote', async () => {
      const id = await place(one())
      assert.deepEqual(await get(`${two()}/cached/${id}`), { note: 'a note' })
      for (let round = 1; round <= 30; round += 1) {
        const { cookie } = await post(`${one()}/rename/${id}`, { note: `round ${round}` })
        const seen = await get(`${two()}/cached/${id}`, { cookie: cookie.split(';')[0]! })
        assert.deepEqual(seen, { note: `round ${round}` })
      }
    })

    it('repeats a request whose writes are in both, and does each write once', async () => {
      const id = await place(one())
      const key = { 'idempotency-key': randomUUID() }
      const body = { note: `failed ${key['idempotency-key']}`, failAfter: 'billing' }
      assert.equal((await post(`${one()}/rename/${id}`, body, key)).status, 500)
      const { status, body: answer } = await post(`${one()}/rename/${id}`, body, key)
      assert.deepEqual([status, answer], [200, { id: String(id) }])
      const again = await post(`${two()}/rename/${id}`, body, key)
      assert.deepEqual([again.status, again.body], [200, { id: String(id) }])
      assert.deepEqual(await get(`${one()}/orders/${id}`), { note: body.note })
      const renamed = (await get<string[]>(`${one()}/reminders/${id}`)).filter((kind) => kind === 'renamed')
      assert.deepEqual(renamed, ['renamed'])
      const other = { ...body, note: 'another payload' }
      assert.equal((await post(`${one()}/rename/${id}`, other, key)).status, 422)
    })

    const renamed = async (id: number) =>
      (await get<string[]>(`${one()}/reminders/${id}`)).filter((kind) => kind === 'renamed').length

    it('repeats a request whose lease has ended in the main database only, and does each write once', async () => {
      const id = await place(one())
      const key = { 'idempotency-key': randomUUID() }
      const body = { note: `slow ${key['idempotency-key']}` }
      const reached = Promise.withResolvers<void>()
      const goOn = Promise.withResolvers<void>()
      gates.set(body.note, () => {
        reached.resolve()
        return goOn.promise
      })
      const first = post<{ code: string }>(`${one()}/rename/${id}`, body, key)
      await reached.promise
      const second = await until(async () => {
        await rowsOf(main, `update rung.idempotency set lease_until = clock_timestamp() where lease_until is not null`)
        const answer = await post(`${two()}/rename/${id}`, body, key)
        return (answer.status !== 409 || answer.replayed) && answer
      }, 'the request is taken over')
      assert.deepEqual([second.status, second.body], [200, { id: String(id) }])
      goOn.resolve()
      const late = await first
      assert.deepEqual([late.status, late.body.code], [409, 'IDEMPOTENCY_IN_FLIGHT'])
      const again = await post(`${one()}/rename/${id}`, body, key)
      assert.deepEqual([again.status, again.replayed], [200, true])
      assert.equal(await renamed(id), 1)
    })

    it('keeps no refusal of its own: a holder that was fenced in the other database leaves the key free', async () => {
      const id = await place(one())
      const key = { 'idempotency-key': randomUUID() }
      const body = { note: `fenced ${key['idempotency-key']}` }
      gates.set(body.note, async () => {
        await rowsOf(other, `update rung.idempotency set token = token + 1000000`)
      })
      const fenced = await post<{ code: string }>(`${one()}/rename/${id}`, body, key)
      assert.deepEqual([fenced.status, fenced.body.code], [409, 'IDEMPOTENCY_IN_FLIGHT'])
      await rowsOf(other, `update rung.idempotency set token = token - 1000000`)
      assert.equal((await post(`${one()}/rename/${id}`, body, key)).status, 200)
      assert.equal(await renamed(id), 1)
    })

    it('knows what an attempt has committed only in the other database', async () => {
      const id = await place(one())
      const key = { 'idempotency-key': randomUUID() }
      const body = { note: `failed ${key['idempotency-key']}`, failAfter: 'billing' }
      assert.equal((await post(`${one()}/rename/${id}`, body, key)).status, 500)
      const otherPayload = { note: 'another payload' }
      assert.equal((await post(`${two()}/rename/${id}`, otherPayload, key)).status, 422)
      assert.equal((await post(`${two()}/rename/${id}`, body, key)).status, 200)
      assert.equal(await renamed(id), 1)
    })

    it('refuses a repetition that leaves out the write in the other database', async () => {
      const id = await place(one())
      const key = { 'idempotency-key': randomUUID() }
      const body = { note: `failed ${key['idempotency-key']}`, failAfter: 'billing', decideByRead: true }
      assert.equal((await post(`${one()}/rename/${id}`, body, key)).status, 500)
      const { status, body: problem } = await post<{ code: string }>(`${two()}/rename/${id}`, body, key)
      assert.deepEqual([status, problem.code], [500, 'IDEMPOTENCY_DIVERGED'])
      assert.deepEqual(await get(`${one()}/orders/${id}`), { note: 'a note' })
    })

    it('begins anew in both when the key has expired in the main database', async () => {
      const id = await place(one())
      const key = { 'idempotency-key': randomUUID() }
      for (const effects of [1, 2]) {
        const { status, replayed } = await post(`${one()}/rename/${id}`, { note: 'expires' }, key)
        assert.deepEqual([status, replayed], [200, false])
        assert.equal(await renamed(id), effects)
        await rowsOf(main, `update rung.idempotency set expires_at = clock_timestamp()`)
      }
    })

    it('shows the pools of both', async () => {
      const text = await (await fetch(`${one()}/metrics`)).text()
      for (const name of ['main', 'billing']) {
        assert.match(text, new RegExp(`db_pool_connections\\{database="${name}",target="write",state="max"\\} \\d+`))
      }
    })

    it('does not start when a module reads the tables of one in the other database', async () => {
      const [orders, billing] = app.modules
      const prying = { ...app, modules: [orders!, { ...billing!, reads: ['orders'] }] }
      const start = bootForTest(prying, postgres, { databases: [billingAt(await postgres.createDatabase())] })
      await assert.rejects(start, { code: 'APP_INVALID' })
    })
  })

for (const events of carriers)
  it(
    `after the process is killed at every moment of a job, each effect in the other database is there once: ${events}`,
    skipOf(events),
    async () => {
      const [main, other] = [await postgres.createDatabase(), await postgres.createDatabase()]
      await withTempDir(async (dir) => {
        const env = {
          PORT: '0',
          NODE_ENV: 'test',
          DATABASE_URL: urlOf(main),
          RUNG_SECRET: 'a secret of the tests, long enough to be one',
          RUNG_DATA: dir,
          ...settingsOf(events),
        }
        const script = fileURLToPath(new URL('../support/two-databases-process.ts', import.meta.url))
        const children = new Set<ChildProcess>()
        async function start(
          at?: string,
        ): Promise<{ url: string | undefined; gone: Promise<void>; child: ChildProcess }> {
          const child = fork(script, [JSON.stringify({ env, billing: billingAt(other), at })], {
            execArgv: ['--conditions=rung-source'],
          })
          children.add(child)
          const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
          const said = new Promise<string>((resolve) => child.once('message', (url) => resolve(String(url))))
          return { url: await Promise.race([said, gone.then(() => undefined)]), gone, child }
        }
        const placed: number[] = []
        try {
          const moments = ['claimed', 'before-run', 'after-run', 'before-settle', 'after-settle']
          const deaths =
            events === 'table'
              ? [...moments, ...moments].map((moment, n) => `${moment}:${n + 1}`)
              : ['numbered', 'stored', 'sent', 'received', 'taken', 'acknowledged'].map((moment) => `${moment}:2`)
          for (const at of deaths) {
            const { url, gone } = await start(at)
            // It ends itself while these are done, or with what the one before it has left.
            for (let n = 0; url && n < 6; n += 1) {
              const id = await place(url).catch(() => undefined)
              if (id !== undefined) placed.push(id)
            }
            await gone
          }
          const { url } = await start()
          for (const id of placed) {
            await until(async () => (await get<number[]>(`${url}/orders/${id}/paid`)).length > 0, `order ${id} is paid`)
            await until(
              async () => (await get<string[]>(`${url}/reminders/${id}`)).includes('sent'),
              'it is reminded of',
            )
          }
        } finally {
          for (const child of children) child.kill('SIGKILL')
        }
        assert.ok(placed.length >= 20, `${placed.length} orders`)
        const twice = (table: string) => `select order_id from ${table} group by order_id having count(*) > 1`
        assert.deepEqual(await rowsOf(other, twice('billing.invoice')), [])
        assert.deepEqual(await rowsOf(main, twice('orders.paid')), [])
        assert.deepEqual(await rowsOf(other, twice(`(select * from billing.reminder where kind = 'sent') as sent`)), [])
        // An order whose answer was lost with the process counts too: whatever is there has its invoice.
        const all = await rowsOf(main, 'select count(*)::int from orders.placed')
        assert.deepEqual(await rowsOf(other, 'select count(distinct order_id)::int from billing.invoice'), all)
      })
    },
  )

for (const events of carriers)
  it(
    `a session sees its own writes while a replica lags, and the replica is read when it does not: ${events}`,
    skipOf(events),
    async () => {
      await withTempDir(async (dir) => {
        const pair = await startPair(dir)
        const other = await postgres.createDatabase()
        const reads = { postgres: 0, 'postgres-2': 0 }
        const count = (message: unknown) => {
          const { server, database } = message as ReadRouted
          if (database.name === 'main') reads[server as keyof typeof reads] += 1
        }
        readRouted.subscribe(count)
        const running = await bootForTest(app, postgres, { databases: [billingAt(other)] }, [], {
          DATABASE_URL: urlOf(pair.primary),
          DATABASE_READ_URL: urlOf(pair.standby),
          RUNG_LAG_MS: '60000',
          ...settingsOf(events),
        })
        const { url } = running
        try {
          const old = await place(url, { note: 'old' })
          await pair.resume()
          await pair.pause()
          const writer = await post<{ id: number }>(`${url}/orders`, { note: 'new' })
          const cookie = { cookie: writer.cookie.split(';')[0]! }
          const { id } = writer.body
          const [before] = [{ ...reads }]
          assert.deepEqual(await get(`${url}/orders/${id}`, cookie), { note: 'new' }, 'who wrote sees it')
          assert.equal(reads.postgres, before.postgres + 1)
          assert.deepEqual(await get(`${url}/orders/${id}`), { note: null }, 'others read the replica, which lags')
          assert.deepEqual(await get(`${url}/orders/${old}`), { note: 'old' })
          assert.equal(reads['postgres-2'], before['postgres-2'] + 2)
          // The consumer in the other database, and what it calls, see what the event tells of.
          await until(async () => (await get<number[]>(`${url}/invoices/${id}`)).length > 0, 'the invoice is there')
          assert.deepEqual(await get(`${url}/cached/${id}`, cookie), { note: 'new' })
          // Somebody without a position gets a cached value too, and from then on never an older one than it.
          assert.deepEqual(await get(`${url}/cached/${id}`), { note: 'new' })
          await pair.resume()
          const standbyReads = reads['postgres-2']
          assert.deepEqual(await get(`${url}/orders/${id}`, cookie), { note: 'new' })
          assert.equal(reads['postgres-2'], standbyReads + 1, 'the replica has caught up and is read')
        } finally {
          readRouted.unsubscribe(count)
          await running.stop()
          await pair.stop()
        }
      })
    },
  )

it('handles after a change to the table what was published over a broker and not taken', { skip: noNats }, async () => {
  const [main, other] = [await postgres.createDatabase(), await postgres.createDatabase()]
  const start = (settings: Record<string, string>) =>
    bootForTest(app, postgres, { databases: [billingAt(other)] }, [], { DATABASE_URL: urlOf(main), ...settings })
  const web = await start({ ...settingsOf('jetstream'), RUNG_ROLE: 'web' }) // nobody takes events to their groups
  const ids = [await place(web.url), await place(web.url), await place(web.url)]
  await web.stop()
  assert.deepEqual(await rowsOf(other, 'select order_id from billing.invoice'), [])
  const both = await start({})
  for (const id of [...ids, await place(both.url)]) {
    await until(async () => (await get<number[]>(`${both.url}/orders/${id}/paid`)).length > 0, `order ${id} is paid`)
  }
  await both.stop()
})
