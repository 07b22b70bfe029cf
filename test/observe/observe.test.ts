import assert from 'node:assert/strict'
import { AsyncResource } from 'node:async_hooks'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { Type } from 'typebox'
import { defineApp, defineJob, defineModule, handle, outgoing } from '../../src/index.ts'
import { callSite } from '../../src/kernel/fault.ts'
import type { NPlusOne } from '../../src/observe/n-plus-one.ts'
import { observe } from '../../src/observe/observe.ts'
import { worthALine } from '../../src/observe/request-log.ts'
import { readSightings } from '../../src/observe/sighting-table.ts'
import type { SlowStatement } from '../../src/observe/slow-statements.ts'
import { exportTraces } from '../../src/observe/traces/otlp.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { openDatabase } from '../../src/runtime/wire.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import { rung1k } from '../../src/topology/rungs/1k.ts'
import { bootForTest } from '../support/app.ts'
import shop from '../support/apps/shop/app.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'

/** Outside of any transaction. */
const outside = AsyncResource.bind(<T>(fn: () => T): T => fn()) as <T>(fn: () => T) => T

let postgres: TestPostgres
let running: Running
let other: Running
const slow: SlowStatement[] = []
const nPlusOne: NPlusOne[] = []
/** Resolves at the next sighting of a plan. */
let planned = Promise.withResolvers<SlowStatement>()

before(async () => {
  postgres = await testPostgres()
  const sightings = {
    slow(statement: SlowStatement) {
      slow.push(statement)
      if (statement.plan !== undefined) planned.resolve(statement)
    },
    nPlusOne: (found: NPlusOne) => void nPlusOne.push(found),
  }
  running = await bootForTest(shop, postgres, {}, [observe({ sightings })])
  other = await bootForTest(shop, postgres, {}, [observe()])
  await post({ id: 1, n: 1 })
})
after(async () => {
  await running?.stop()
  await other?.stop()
  await postgres?.stop()
})

function post(item: object): Promise<Response> {
  return fetch(`${running.url}/items`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(item),
  })
}

/** The figures of `/metrics` by name and labels. */
async function figures(of = running): Promise<Map<string, number>> {
  const text = await (await fetch(`${of.url}/metrics`)).text()
  return new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
}

describe('metrics', () => {
  it('count requests by route and status, not by path', async () => {
    for (const id of [1, 1, 999]) await fetch(`${running.url}/items/${id}`)
    const found = await figures()
    const series = (status: number) =>
      `http_request_duration_seconds_count{method="GET",route="/items/:id",status="${status}",module="stock"}`
    assert.equal(found.get(series(200)), 2)
    assert.equal(found.get(series(404)), 1)
  })

  it('time calls to other services by what became of them', async () => {
    const service = outgoing('bank')
    await service.call(async () => 1)
    await assert.rejects(service.call(() => Promise.reject(new Error('no'))))
    const found = await figures()
    for (const outcome of ['ok', 'failed'])
      assert.equal(found.get(`outgoing_duration_seconds_count{service="bank",outcome="${outcome}"}`), 1)
  })

  it('count statements, transactions, waits and connections', async () => {
    const found = await figures()
    assert.ok(found.get('db_statement_duration_seconds_count{module="stock",target="write",command="INSERT"}')! >= 1)
    assert.ok(found.get('db_transaction_duration_seconds_count{module="stock",outcome="commit"}')! >= 1)
    assert.equal(found.get('db_pool_connections{database="main",target="read",state="max"}'), 10)
    assert.ok(found.get('db_pool_wait_seconds_count{target="read"}')! >= 1)
  })

  it('tell of the process', async () => {
    const names = [...(await figures()).keys()].map((name) => name.split('{')[0])
    for (const name of [
      'process_cpu_seconds_total',
      'process_resident_memory_bytes',
      'nodejs_eventloop_utilization',
      'nodejs_eventloop_lag_p99_seconds',
    ]) {
      assert.ok(names.includes(name), name)
    }
  })

  it('of two apps in one process do not mix', async () => {
    const routes = [...(await figures(other)).keys()].filter((name) => name.includes('/items'))
    assert.deepEqual(routes, [])
  })
})

describe('slow statements', () => {
  it('are seen with their plan, once for each, without values', async () => {
    await fetch(`${running.url}/slow-statement`)
    const first = await planned.promise
    assert.match(first.plan!, /Limit|Seq Scan|Index/)
    assert.equal(first.name, 'GET /slow-statement')
    assert.equal(first.module, 'stock')
    assert.ok(first.durationMs >= 100)
    planned = Promise.withResolvers()
    await fetch(`${running.url}/slow-statement`)
    assert.equal(slow.length, 2)
    assert.equal(slow[1]!.plan, undefined)
    assert.equal((await figures()).get('db_slow_statements_total{module="stock"}'), 2)
  })
})

describe('lock waits', () => {
  it('that were given up are kept as such', async () => {
    const seen: SlowStatement[] = []
    const url = urlOf(await postgres.createDatabase())
    const data = { ...readBindings({ DATABASE_URL: url }, '/').data, lockTimeoutMs: 150 }
    const watching = observe({ sightings: { slow: (statement) => void seen.push(statement), nPlusOne() {} } })
    const app = await bootForTest(shop, postgres, { data }, [watching])
    try {
      const data = app.data.forModule('stock')
      await data.write((tx) => tx`insert into stock.item (id, n) values (1, 1)`)
      await data.write(async (tx) => {
        await tx`update stock.item set n = 2 where id = 1`
        const second = outside(() => data.write((other) => other`update stock.item set n = 3 where id = 1`))
        await assert.rejects(second, { code: 'DATA_LOCK_TIMEOUT' })
      })
      assert.deepEqual(
        seen.map(({ statement, lockTimeout }) => ({ statement, lockTimeout })),
        [{ statement: 'update stock.item set n = 3 where id = 1', lockTimeout: true }],
      )
    } finally {
      await app.stop()
    }
  })
})

describe('n plus one', () => {
  it('is found with the place in the code', async () => {
    await fetch(`${running.url}/n-plus-one`)
    assert.equal(nPlusOne.length, 1)
    assert.equal(nPlusOne[0]!.name, 'GET /n-plus-one')
    assert.match(nPlusOne[0]!.statement, /select n from stock\.item where id = \$1/)
    assert.match(nPlusOne[0]!.site, /test\/support\/apps\/shop\/app\.ts:\d+:\d+$/)
    assert.equal((await figures()).get('db_n_plus_one_total{route="GET /n-plus-one"}'), 1)
  })

  it('each process tells the database what it has seen, and the findings of all are added up', async () => {
    const connection = await postgres.createDatabase()
    const env = { DATABASE_URL: urlOf(connection) }
    const processes = [1, 2].map(() => bootForTest(shop, postgres, {}, [observe()], env))
    for (const one of await Promise.all(processes)) {
      await fetch(`${one.url}/n-plus-one`)
      await one.stop()
    }
    const database = openDatabase(rung1k.data, connection)
    const seen = await readSightings(database).finally(() => database.close())
    assert.deepEqual(
      seen.map(({ kind, route, count }) => [kind, route, count]),
      [['n-plus-one', 'GET /n-plus-one', 2]],
    )
  })

  it('is not what several requests do', async () => {
    for (let n = 0; n < 15; n += 1) await fetch(`${running.url}/items/1`)
    assert.equal(nPlusOne.length, 1)
  })

  it('names the first frame of the app', () => {
    const stack = [
      'Error',
      '    at tag (file:///lib/src/sql.ts:1:2)',
      '    at x (node:internal/y:3:4)',
      '    at /lib/node_modules/z/i.js:1:1',
      '    at Object.list (file:///app/a%20b/list.ts:5:6)',
    ]
    assert.equal(callSite(stack.join('\n'), '/lib/src'), '/app/a b/list.ts:5:6')
    assert.equal(callSite('Error', '/lib/src'), 'unknown')
  })
})

describe('request log', () => {
  it('keeps failures and slow ones, and a share of the rest', () => {
    assert.ok(worthALine(500, 1, 0, () => 0.5))
    assert.ok(worthALine(200, 1_000, 0, () => 0.5))
    assert.ok(!worthALine(200, 1, 0.1, () => 0.5))
    assert.ok(worthALine(200, 1, 0.1, () => 0.05))
  })
})

describe('traces', () => {
  it('reach a collector by OTLP: statements, cache, calls and the job below their request, in the trace of the caller', async (t) => {
    const ran = Promise.withResolvers<void>()
    const tidy = defineJob('desk.tidy', Type.Object({}))
    const desk = defineModule({
      name: 'desk',
      owner: 'tests',
      work: ({ data }) => [
        handle(tidy, async () => {
          await data.read((sql) => sql`select 'of the job'`)
          ran.resolve()
        }),
      ],
      routes(http, { cache, data }) {
        http.get('/desk', async () => {
          const load = () => data.read((sql) => sql`select 'of the load'`)
          for (let n = 0; n < 3; n += 1) await cache.get('drawer:private', { ttl: '1h' }, load)
          await outgoing('lamp').call(async () => {})
          await data.write(async (tx) => tx.enqueue(tidy, {}))
          return {}
        })
      },
    })
    const app = await bootForTest(defineApp({ name: 'desk', modules: [desk] }), postgres, {}, [observe()])
    t.after(() => app.stop())
    interface Sent {
      resourceSpans: {
        scopeSpans: {
          spans: {
            name: string
            traceId: string
            spanId: string
            parentSpanId?: string
            attributes: { key: string; value: { stringValue?: string } }[]
          }[]
        }[]
      }[]
    }
    const bodies: Sent[] = []
    const collector = createServer((request, response) => {
      let text = ''
      request.on('data', (chunk) => {
        text += chunk
      })
      request.on('end', () => {
        bodies.push(JSON.parse(text))
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
      })
    })
    collector.listen(0, '127.0.0.1')
    await once(collector, 'listening')
    const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
    // The exporter reads its endpoint from the process itself.
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = endpoint
    const end = await exportTraces(readBindings({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, '/').telemetry, 'shop')
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
    const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01` }
    const answer = await fetch(`${running.url}/items/1`, { headers })
    await answer.text()
    const desks = await fetch(`${app.url}/desk`, { headers })
    assert.equal(desks.status, 200, await desks.text())
    await ran.promise
    await app.stop() // the run has ended, and with it its span
    await end()
    delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT
    collector.close()
    const spans = bodies.flatMap(({ resourceSpans }) =>
      resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)),
    )
    const request = spans.find(({ name }) => name === 'GET /items/:id')!
    const statement = spans.find(({ name }) => name === 'SELECT')!
    assert.equal(request.traceId, traceId)
    assert.equal(request.parentSpanId, '00f067aa0ba902b7')
    assert.equal(statement.traceId, traceId)
    assert.equal(statement.parentSpanId, request.spanId)
    assert.match(answer.headers.get('traceparent')!, new RegExp(request.spanId))
    const text = statement.attributes.find(({ key }) => key === 'db.query.text')!.value.stringValue!
    assert.match(text, /where id = \$1/)

    const asked = spans.find(({ name }) => name === 'GET /desk')!
    const attributeOf = (span: (typeof spans)[number], wanted: string) =>
      span.attributes.find(({ key }) => key === wanted)?.value.stringValue
    const cached = spans.filter(({ name }) => name === 'cache desk/drawer')
    assert.deepEqual(
      cached.map((span) => [attributeOf(span, 'rung.cache.outcome'), span.parentSpanId]),
      [['loaded', asked.spanId]],
      'reads of memory have no spans',
    )
    const called = spans.find(({ name }) => name === 'call lamp')!
    assert.deepEqual([attributeOf(called, 'rung.outcome'), called.parentSpanId], ['ok', asked.spanId])
    const run = spans.find(({ name }) => name === 'run desk.tidy')!
    assert.deepEqual([run.traceId, run.parentSpanId], [traceId, asked.spanId])
    const parentOf = (part: string) =>
      spans.find((span) => attributeOf(span, 'db.query.text')?.includes(part))?.parentSpanId
    assert.equal(parentOf('of the load'), asked.spanId)
    assert.equal(parentOf('of the job'), run.spanId)
    assert.doesNotMatch(JSON.stringify(spans), /private/)
  })
})
