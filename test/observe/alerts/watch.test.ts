import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Client, connectOnce } from '../../../src/engines/postgres/client.ts'
import { RungError } from '../../../src/kernel/errors.ts'
import { createWatch, type WatchParts } from '../../../src/observe/alerts/keep.ts'
import { rulesOf } from '../../../src/observe/alerts/owners.ts'
import { acknowledgeAlerts, evaluatedUntil, evaluateMinute, listAlerts } from '../../../src/observe/alerts/table.ts'
import { type Frame, keyOf, nothing, pack } from '../../../src/observe/record/frame.ts'
import { addFrame } from '../../../src/observe/record/table.ts'
import { runAlone } from '../../../src/primitives/data/alone.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { Worker } from '../../../src/primitives/jobs/worker.ts'
import type { MailMessage } from '../../../src/primitives/mail/mail.ts'
import { alertItems, alertLine } from '../../../src/runtime/alerts.ts'
import { openAlertLease, openQueues } from '../../../src/runtime/wire.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { openWebhook } from '../../support/webhook.ts'

const minuteMs = 60_000
const alerting = fileURLToPath(new URL('../../support/alerting-process.ts', import.meta.url))
/** A whole hour. */
const begin = Date.UTC(2026, 9, 25)
const rules = rulesOf({ name: 'market', modules: [{ name: 'orders', owner: 'sales' }], alerts: {} })

const children: ChildProcess[] = []
let postgres: TestPostgres
let webhook: Awaited<ReturnType<typeof openWebhook>>
before(async () => {
  postgres = await testPostgres()
  webhook = await openWebhook()
})
after(async () => {
  for (const child of children) child.kill('SIGKILL')
  webhook.close()
  await postgres.stop()
})

/** A database with the record of one process whose pool has so many busy connections in each minute. */
async function open() {
  webhook.reset()
  const { database, connection } = await openSystemTables(postgres)
  const client = await connectOnce(connection)
  const { queue } = openQueues(database)
  const told = { webhook: webhook.url, mail: [] }
  const lines = [alertLine(told, { send: () => Promise.reject(new Error('no mail')) })]
  return {
    ...{ database, client, queue, told, url: urlOf(connection) },
    record: (minute: number, busy: number) => record(database, minute, busy),
    /** A process that evaluates. */
    watch(node: string, clock: { now(): number; ticks(): number }, other: Partial<WatchParts> = {}) {
      const troubles: unknown[] = []
      const watch = createWatch({
        ...{ node, app: 'market', rules, database, queue, told, clock },
        lease: openAlertLease(database),
        looked: () => {},
        trouble: (error) => troubles.push(error),
        ...other,
      })
      return { ...watch, troubles }
    },
    /** Sends what is to be sent. Returns what ends it. */
    work(name: string) {
      const worker = new Worker({ queue, lines, name, database })
      worker.start()
      return () => worker.stop(1_000)
    },
    async close() {
      await client.end()
      await database.close()
    },
  }
}

async function record(database: Database, minute: number, busy: number): Promise<void> {
  const at = begin + minute * minuteMs
  const gauge = (value: number) => ({ min: value, max: value, sum: value, count: 1 })
  const key = (state: string) => keyOf({ database: 'main', target: 'write', state })
  const gauges = { db_pool_connections: { [key('max')]: gauge(10), [key('busy')]: gauge(busy) } }
  const frame: Frame = { node: 'web', from: at - minuteMs + 20, to: at + 20, ms: minuteMs, ...nothing, gauges }
  await addFrame(database, { node: frame.node, from: frame.from, to: frame.to, content: pack([frame]) })
}

function clockAt(): { now(): number; ticks(): number; minute: number } {
  const clock = { minute: 0, now: () => begin + clock.minute * minuteMs + 15_000, ticks: () => clock.minute * minuteMs }
  return clock
}

const states = async (database: Database) => (await listAlerts(database))!.map(({ rule, state }) => `${rule} ${state}`)
const count = async (client: Client, what: string) =>
  Number((await client.query(`select count(*) from ${what}`)).rows[0].count)

describe('alerts', () => {
  it('begin, fire, and end; each is told once', async () => {
    const { database, client, record, watch, work, close } = await open()
    const clock = clockAt()
    const a = watch('a', clock)
    const stop = work('a')
    const said: string[] = []
    for (clock.minute = 0; clock.minute < 30; clock.minute += 1) {
      await record(clock.minute, clock.minute < 5 || clock.minute >= 15 ? 2 : 10)
      await a.look()
      said.push((await states(database)).join())
    }
    // Five minutes' mean: 8.4 of 10 at minute 8. It falls to 6.8 in minute 16, and to 5.2 in 17.
    assert.deepEqual(
      [said.indexOf('pool-used pending'), said.indexOf('pool-used firing'), said.lastIndexOf('pool-used firing')],
      [8, 10, 20],
    )
    const posts = await webhook.until(2)
    assert.match(
      posts[0]!.text,
      /^market: pool-used \(main write\) fires \[page\]\nA process uses most of its database connections: 100.0 %, since 2026-10-25T00:08Z.\nOwner: market. Runbook: rung alerts runbook pool-used\nIncident 1: rung incidents show 1$/,
    )
    assert.match(posts[1]!.text, /^market: pool-used \(main write\) has ended, after 6m/)
    await stop()
    assert.equal(posts.length, 2)
    assert.equal(await count(client, 'rung.job'), 0)
    const { rows } = await client.query('select opened_at, closed_at from rung.incident')
    assert.deepEqual(rows, [{ opened_at: new Date(begin + 10 * minuteMs), closed_at: new Date(begin + 21 * minuteMs) }])
    assert.deepEqual(a.troubles, [])
    await close()
  })

  it('are told once when two processes evaluate at once', async () => {
    const { database, client, record, queue, told, work, close } = await open()
    const clock = clockAt()
    // Each holds what it takes for the lease, as after a pause.
    const lease = { hold: async () => true, release: async () => {} }
    const changes: string[] = []
    const parts = {
      lease,
      looked: (_: number, looked: { changes: readonly { kind: string }[] }) =>
        changes.push(...looked.changes.map(({ kind }) => kind)),
    }
    const both = ['a', 'b'].map((node) =>
      createWatch({
        ...{ node, app: 'market', rules, database, queue, told, clock, ...parts },
        trouble: assert.ifError,
      }),
    )
    for (clock.minute = 0; clock.minute < 12; clock.minute += 1) {
      await record(clock.minute, 10)
      await Promise.all(both.map((one) => one.look()))
    }
    assert.deepEqual(changes, ['fires'])
    assert.equal(await count(client, 'rung.job'), 1)
    const stop = work('a')
    await webhook.until(1)
    await stop()
    assert.equal(webhook.posts.length, 1)
    assert.equal(await count(client, 'rung.incident'), 1)
    await close()
  })

  it('are told once when the process dies between the evaluation and the message, and when the first message fails', async () => {
    const { database, client, record, watch, work, close } = await open()
    const clock = clockAt()
    const a = watch('a', clock)
    for (clock.minute = 0; clock.minute < 8; clock.minute += 1) {
      await record(clock.minute, 10)
      await a.look() // and nobody sends: this process dies here
    }
    assert.deepEqual(await states(database), ['pool-used firing'])
    assert.equal(webhook.posts.length, 0)
    clock.minute += 3
    await client.query('delete from rung.lease') // as after its time
    for (let minute = 8; minute <= 11; minute += 1) await record(minute, 10)
    const b = watch('b', clock)
    await b.look()
    assert.equal(await evaluatedUntil(database), begin + 11 * minuteMs)
    let failures = 0
    webhook.answers(() => (failures++ === 0 ? 503 : 200))
    const stop = work('b')
    await webhook.until(1)
    await stop()
    assert.equal(failures, 2)
    assert.equal(webhook.posts.length, 1)
    assert.equal(await count(client, 'rung.job'), 0)
    await close()
  })

  it('reach a receiver once that drops what it has, also where the process is killed while it posts', async () => {
    const { database, client, record, watch, url, close } = await open()
    for (let minute = 0; minute < 8; minute += 1) await record(minute, 10)
    const clock = clockAt()
    const a = watch('a', clock)
    for (; clock.minute < 2; clock.minute += 1) await a.look()
    await a.end()
    const start = (minute: number) => {
      const args = ['--conditions=rung-source', alerting, url, webhook.url, String(begin + minute * minuteMs)]
      children.push(spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] }))
    }
    // The first one fires in its third minute, and is killed while its message is on the way.
    webhook.answers(() => {
      children.at(-1)!.kill('SIGKILL')
      webhook.answers(() => 200)
      return 200
    })
    start(2)
    await webhook.until(1)
    await client.query('delete from rung.lease') // as after its time
    start(7)
    await webhook.until(2)
    await until(async () => (await count(client, 'rung.job')) === 0, 'the job has ended')
    assert.equal(new Set(webhook.posts.map(({ key }) => key)).size, 1)
    assert.deepEqual(await states(database), ['pool-used firing'])
    assert.equal(await count(client, 'rung.incident'), 1)
    assert.equal(webhook.posts.length, 2)
    const last = children.at(-1)!
    const ended = once(last, 'exit')
    last.kill('SIGKILL')
    await ended
    await close()
  })

  it('change with all that belongs to them, or not at all', async () => {
    const { database, client, record, queue, told, watch, close } = await open()
    const clock = clockAt()
    for (let minute = 0; minute < 8; minute += 1) await record(minute, 10)
    await client.query('alter table rung.job rename to away')
    const a = watch('a', clock)
    for (; clock.minute < 8; clock.minute += 1) await a.look()
    assert.match(String(a.troubles[0]), /job/)
    assert.deepEqual(await states(database), ['pool-used pending'])
    assert.equal(await count(client, 'rung.incident'), 0)
    await client.query('alter table rung.away rename to job')
    await a.look()
    assert.deepEqual(await states(database), ['pool-used firing'])
    assert.deepEqual([await count(client, 'rung.incident'), await count(client, 'rung.job')], [1, 1])
    // A minute that was evaluated is not evaluated again.
    assert.equal(
      await evaluateMinute({ database, queue, app: 'market', rules, told }, begin + 5 * minuteMs, []),
      undefined,
    )
    await close()
  })

  it('stay as they are while nothing is recorded, and what is pending begins anew', async () => {
    const { database, record, watch, close } = await open()
    const clock = clockAt()
    const a = watch('a', clock)
    for (clock.minute = 0; clock.minute < 2; clock.minute += 1) {
      await record(clock.minute, 10)
      await a.look()
    }
    assert.deepEqual(await states(database), ['pool-used pending'])
    clock.minute = 60
    await record(60, 10)
    await a.look()
    const [alert] = (await listAlerts(database))!
    assert.deepEqual([alert!.state, alert!.since], ['pending', begin + 60 * minuteMs])
    await close()
  })

  it('are evaluated on after a clock that was wrong', async () => {
    const { database, client, record, watch, close } = await open()
    const clock = clockAt()
    const a = watch('a', clock)
    await record(0, 10)
    await a.look()
    await client.query(`update rung.alert_look set evaluated_until = evaluated_until + interval '1 year'`)
    for (clock.minute = 1; clock.minute < 4; clock.minute += 1) {
      await record(clock.minute, 10)
      await a.look()
    }
    assert.deepEqual(await states(database), ['pool-used firing'])
    assert.deepEqual(a.troubles, [])
    await close()
  })

  it('are acknowledged, which stays', async () => {
    const { database, client, record, watch, close } = await open()
    const clock = clockAt()
    const a = watch('a', clock)
    const pass = async () => {
      await record(clock.minute, 10)
      await a.look()
      clock.minute += 1
    }
    for (let n = 0; n < 5; n += 1) await pass()
    assert.equal(await acknowledgeAlerts(database, 'pool-used', 'ann', begin), 1)
    assert.equal(await acknowledgeAlerts(database, 'disk-low', 'ann', begin), 0)
    await pass()
    assert.deepEqual(
      (await listAlerts(database))!.map(({ acknowledgedBy, incident }) => [acknowledgedBy, incident]),
      [['ann', 1]],
    )
    const { rows } = await client.query('select text from rung.incident_entry order by id')
    assert.deepEqual(
      rows.map((row) => row.text),
      ['pool-used (main write) fires: 100.0 %', 'pool-used (main write) acknowledged by ann'],
    )
    await close()
  })

  it('are said to be lost by one process while the database cannot be read, and to be back, once each', async () => {
    const { client, record, watch, close } = await open()
    const clock = clockAt()
    const [a, b] = [watch('a', clock), watch('b', clock)]
    const pass = async () => {
      await a.look()
      await b.look()
      clock.minute += 1
    }
    await record(0, 1)
    await pass()
    await client.query('alter table rung.lease rename to away')
    for (let n = 0; n < 5; n += 1) await pass()
    assert.equal(webhook.posts.length, 1)
    assert.match(webhook.posts[0]!.text, /^market: its alerts cannot be evaluated: /)
    await client.query('alter table rung.away rename to lease')
    await pass()
    await pass()
    assert.deepEqual(
      webhook.posts.slice(1).map((post) => post.text),
      ['market: its alerts are evaluated again, after 4 minutes.'],
    )
    assert.deepEqual(a.troubles.length, 2)
    await close()
  })

  it('are told in the order in which they came, also where a receiver was away', async () => {
    const { database, queue, close } = await open()
    const told = { webhook: webhook.url, mail: [] }
    for (const text of ['it fires', 'it has ended']) {
      const pushed = queue.push(alertItems(told, { key: text, subject: text, text }))
      for (const { statement } of pushed) await runAlone(database, statement)
    }
    let asked = 0
    webhook.answers(() => {
      asked += 1
      return asked === 1 ? 503 : 200
    })
    const mail = { send: async () => ({ messageId: '', refused: [] }) }
    const worker = new Worker({ queue, lines: [alertLine(told, mail)], name: 'a', database })
    worker.start()
    await webhook.until(2)
    await worker.stop(1_000)
    assert.deepEqual(
      webhook.posts.map(({ text }) => text),
      ['it fires', 'it has ended'],
    )
    await close()
  })

  it('are mailed as well, and one way that fails does not repeat the other', async () => {
    const { database, client, queue, record, watch, close } = await open()
    const clock = clockAt()
    const told = { webhook: webhook.url, mail: ['ops@example.org', 'ann@example.org'] }
    const a = watch('a', clock, { told })
    for (; clock.minute < 4; clock.minute += 1) {
      await record(clock.minute, 10)
      await a.look()
    }
    const mails: MailMessage[] = []
    const { promise: mailed, resolve } = Promise.withResolvers<void>()
    const mail = {
      async send(message: MailMessage) {
        mails.push(message)
        if (mails.length === 1) throw new RungError('MAIL_UNAVAILABLE', 'The mail server is away.')
        resolve()
        return { messageId: '', refused: [] }
      },
    }
    const worker = new Worker({ queue, lines: [alertLine(told, mail)], name: 'a', database })
    worker.start()
    await Promise.all([mailed, webhook.until(1)])
    await worker.stop(1_000)
    const [first, second] = mails
    assert.deepEqual(first, second)
    assert.deepEqual([second!.to, second!.subject], [told.mail, 'market: fires: pool-used (main write)'])
    assert.match(second!.key!, /^market\/2026-10-25T00:02\/[0-9a-f-]{36}$/)
    assert.equal(second!.text, webhook.posts[0]!.text)
    assert.deepEqual([webhook.posts.length, await count(client, 'rung.job')], [1, 0])
    await close()
  })
})
