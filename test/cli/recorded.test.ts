import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { type Frame, nothing, pack } from '../../src/observe/record/frame.ts'
import { addFrame } from '../../src/observe/record/table.ts'
import { recordStart } from '../../src/runtime/deploys.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'

const hourMs = 3_600_000
const nowhere = 'postgres://nobody@127.0.0.1:1/none'

/** Answers like a Prometheus that has scraped requests in the last whole hour, and nothing else. */
function prometheus(): Server {
  return createServer((request, response) => {
    const { searchParams } = new URL(request.url!, 'http://prometheus')
    const series = (le: string) => ({
      metric: { instance: 'a:3000', job: 'app', method: 'GET', route: '/things', status: '200', le },
      values: [[Number(searchParams.get('end')), '3600']],
    })
    const isAsked = searchParams.get('query') === 'increase(http_request_duration_seconds_bucket[1h])'
    const result = isAsked ? ['0.01', '+Inf'].map(series) : []
    response.end(JSON.stringify({ status: 'success', data: { result } }))
  })
}

describe('what commands know of an app', () => {
  let postgres: TestPostgres
  let server: Server
  let RUNG_PROMETHEUS_URL: string
  before(async () => {
    postgres = await testPostgres()
    server = prometheus().listen(0, '127.0.0.1')
    await once(server, 'listening')
    RUNG_PROMETHEUS_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  after(async () => {
    server.close()
    await postgres.stop()
  })

  async function rung<View>(env: Record<string, string>, ...args: string[]): Promise<View> {
    let document: unknown
    const out = {
      line() {},
      note() {},
      json(value: unknown) {
        document = JSON.parse(JSON.stringify(value))
      },
    }
    await main([...args, '--json'], { RUNG_CONFIG: 'none', ...env }, process.cwd(), out)
    return document as View
  }
  type Plan = { users: { rate?: { from: string } }; recorded: object | null; problem?: string }
  const problemsOf = async (env: Record<string, string>) =>
    (await rung<{ problems: string[] }>(env, 'cost', '1k')).problems

  it('is in a Prometheus also where the database is away', async () => {
    const env = { RUNG_PROMETHEUS_URL, DATABASE_URL: nowhere }
    const { users, problem } = await rung<Plan>(env, 'plan', '1k')
    assert.deepEqual([users.rate!.from, problem], ['measured', undefined])
    const [first, ...others] = await problemsOf(env)
    assert.match(first!, /^The database could not be read, so deploys and incidents are missing: \S/)
    assert.deepEqual(others, [])
    const { lines } = await rung<{ lines: { name: string; seen: string }[] }>(env, 'ready')
    assert.equal(lines.find(({ name }) => name === 'record')!.seen, '1 hour of the last week is recorded.')
  })

  it('is nothing where both are away, and each says why', async () => {
    const found = await problemsOf({ RUNG_PROMETHEUS_URL: 'http://127.0.0.1:1', DATABASE_URL: nowhere })
    assert.equal(found.length, 2)
    assert.match(found[0]!, /^The record could not be read.*RUNG_PROMETHEUS_URL/)
    assert.match(found[1]!, /^The database could not be read/)
  })

  it('lacks nothing on a database on which no app was started', async () => {
    const DATABASE_URL = urlOf(await postgres.createDatabase())
    assert.deepEqual(await problemsOf({ DATABASE_URL }), [])
    assert.deepEqual(await problemsOf({ DATABASE_URL, RUNG_PROMETHEUS_URL }), [])
  })

  it('keeps the record where the deploys cannot be read', async () => {
    const { database, connection } = await openSystemTables(postgres)
    const to = Math.floor(Date.now() / hourMs) * hourMs
    const frame: Frame = { node: 'a', from: to - hourMs, to, ms: hourMs, ...nothing }
    await addFrame(database, { node: 'a', from: frame.from, to, content: pack([frame]) })
    await database.close()
    await recordStart(connection, { build: 'a', rung: '1k', startedBy: 'rung start' })
    const env = { DATABASE_URL: urlOf(connection) }
    assert.deepEqual(await problemsOf(env), [])
    const client = await connectOnce(connection)
    await client.query('alter table rung.deploy rename column build to something')
    await client.end()
    assert.match((await problemsOf(env)).join(), /^The database could not be read[^\n]*"?build"?/)
    const { recorded, problem } = await rung<Plan>(env, 'plan', '1k')
    assert.ok(recorded)
    assert.equal(problem, undefined)
  })
})
