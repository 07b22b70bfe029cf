import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type TSchema, Type } from 'typebox'
import type { Data } from '../../../src/app/define-module.ts'
import { cron, handle, on, type Tx, type Work } from '../../../src/app/work.ts'
import { isRungError, RungError } from '../../../src/kernel/errors.ts'
import { covers } from '../../../src/kernel/position.ts'
import { currentScope, runInScope, Scope } from '../../../src/kernel/scope.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { defineEvent } from '../../../src/primitives/events/events.ts'
import { cronState, lastDue, readCrons } from '../../../src/primitives/jobs/cron.ts'
import { defineJob, type JobOptions, jobsOf } from '../../../src/primitives/jobs/jobs.ts'
import type { JobRun } from '../../../src/primitives/jobs/work.ts'
import { noRetry } from '../../../src/primitives/jobs/worker.ts'
import { openPrimitives, type Primitives } from '../../../src/runtime/primitives.ts'
import { openSignals } from '../../../src/runtime/wire.ts'
import { type AppWork, addWork, startWork, subscribe } from '../../../src/runtime/work.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

const Input = Type.Object({ n: Type.Integer() })
const fast = { backoff: { base: 1, max: 5 } } as const

describe('a worker', () => {
  let postgres: TestPostgres
  let database: Database
  let primitives: Primitives
  let other: Primitives
  let data: Data
  const stops: (() => Promise<void>)[] = []
  let names = 0

  before(async () => {
    postgres = await testPostgres()
    const opened = await openSystemTables(postgres)
    database = opened.database
    primitives = openPrimitives({
      databases: [{ database }],
      signals: await openSignals(database, async () => opened.connection),
    })
    other = openPrimitives({
      databases: [{ database }],
      signals: await openSignals(database, async () => opened.connection),
    })
    data = primitives.data.forModule('m')
    await data.pool.query('create schema m; create table m.effect (name text not null, n int not null)')
  })
  after(async () => {
    for (const stop of stops) await stop()
    await primitives.close()
    await other.close()
    await database.close()
    await postgres.stop()
  })

  function job(options: JobOptions<{ n: number }> = {}) {
    names += 1
    return defineJob(`test.job-${names}`, Input, { ...fast, ...options })
  }
  function event<Schema extends TSchema>(schema: Schema) {
    names += 1
    return defineEvent(`test.event-${names}`, schema)
  }
  async function work(
    list: readonly Work[],
    on: Primitives = primitives,
    graceMs = 1_000,
  ): Promise<() => Promise<void>> {
    const all: AppWork = { jobs: [], consumed: [], crons: [] }
    addWork(all, 'm', list, on)
    await subscribe(all, on)
    const stop = startWork(all, on, { graceMs })
    stops.push(stop)
    return stop
  }
  const enqueue = (of: ReturnType<typeof job>, n = 0) => data.write((tx) => tx.enqueue(of, { n }))
  const stateOf = async (id: number) => (await primitives.stores.main.queue.list({ ids: [id], limit: 1 }))[0]
  const effects = async (name: string) =>
    (await data.pool.query('select n from m.effect where name = $1 order by n', [name])).rows.map(({ n }) => n)
  const effect = (tx: Tx, name: string, n: number) => tx`insert into m.effect values (${name}, ${n})`

  it('tries again until it works, and says which try it is', async () => {
    const flaky = job()
    const tries: number[] = []
    await work([
      handle(flaky, async ({ n }, run) => {
        tries.push(run.attempt)
        await run.complete(async (tx) => {
          await effect(tx, flaky.name, n)
          if (run.attempt < 3) throw new Error('not yet')
        })
      }),
    ])
    await enqueue(flaky, 7)
    await until(async () => (await effects(flaky.name)).length > 0, 'it is done')
    assert.deepEqual(tries, [1, 2, 3])
    assert.deepEqual(await effects(flaky.name), [7])
  })

  it('ends with the write of complete only: one beside it, which commits first, does not end the job', async () => {
    const busy = job()
    const tries: number[] = []
    await work([
      handle(busy, async ({ n }, run) => {
        tries.push(run.attempt)
        const beside = Promise.withResolvers<void>()
        const completing = run.complete(async (tx) => {
          await effect(tx, busy.name, n)
          await beside.promise
          if (run.attempt === 1) throw new Error('not yet')
        })
        await data.write((tx) => effect(tx, `${busy.name} beside`, n)).finally(beside.resolve)
        await completing
      }),
    ])
    await enqueue(busy, 7)
    await until(async () => (await effects(busy.name)).length > 0, 'it is done')
    assert.deepEqual(tries, [1, 2])
    assert.deepEqual(await effects(`${busy.name} beside`), [7, 7])
  })

  it('refuses a queue with a name that a group of consumers may have', () => {
    assert.throws(() => job({ queue: 'event:orders' }), { code: 'APP_INVALID' })
  })

  it('lets one that always fails be dead, and its neighbours go on', async () => {
    const poison = job({ attempts: 3, concurrency: 1 })
    await work([
      handle(poison, async ({ n }) => {
        if (n === 1) throw new Error('poison')
        await data.write((tx) => effect(tx, poison.name, n))
      }),
    ])
    const ref = await enqueue(poison, 1)
    for (const n of [2, 3, 4]) await enqueue(poison, n)
    await until(async () => (await stateOf(ref.id!))?.state === 'dead', 'it is dead')
    const dead = await stateOf(ref.id!)
    assert.deepEqual([dead?.failures, dead?.error], [3, 'poison'])
    await until(async () => (await effects(poison.name)).length === 3, 'the others are done')
  })

  it('does not repeat what cannot be mended', async () => {
    const hopeless = job()
    await work([
      handle(hopeless, () => {
        throw noRetry(new Error('there is no such account'))
      }),
    ])
    const ref = await enqueue(hopeless)
    await until(async () => (await stateOf(ref.id!))?.state === 'dead', 'it is dead')
    assert.equal((await stateOf(ref.id!))?.failures, 1)
  })

  it('puts off what calls a service that is left alone or busy, and counts no try', async () => {
    const reasons = [
      new RungError('OUTGOING_OPEN', 'left alone', { facts: { retryAfterS: 1 } }),
      new RungError('OUTGOING_FULL', 'busy', { facts: { retryAfterS: 1 } }),
      new Error('not sent', { cause: new RungError('OUTGOING_OPEN', 'left alone') }),
    ]
    const event1 = event(Input)
    for (const reason of reasons) {
      const calls = job({ attempts: 1, keep: true })
      let runs = 0
      await work([
        handle(calls, () => {
          runs += 1
          if (runs === 1) throw reason
        }),
      ])
      const { id } = await enqueue(calls)
      const put = await until(async () => {
        const found = await jobsOf(primitives.stores.main.queue).find(id!)
        return found?.state === 'delayed' && found
      }, 'it is put off')
      assert.equal(put.failures, 0)
      assert.match(put.error!, /left alone|busy|not sent/)
      await primitives.stores.main.queue.change([id!], 'retry')
      primitives.worker!.wake(new Set([calls.name]))
      const done = await until(async () => {
        const found = await jobsOf(primitives.stores.main.queue).find(id!)
        return found?.state === 'done' && found
      }, 'it is done')
      assert.deepEqual([runs, done.failures], [2, 0])
    }
    let deliveries = 0
    await work([
      on(
        event1,
        (_delivered, tx) => {
          deliveries += 1
          if (deliveries === 1) throw reasons[0]
          return tx`insert into m.effect (name, n) values ('put off', 1)`
        },
        { attempts: 1, group: 'put-off' },
      ),
    ])
    await data.write(async (tx) => tx.publish(event1, { n: 1 }))
    await until(
      async () => (await data.pool.query(`select from m.effect where name = 'put off'`)).rowCount === 1,
      'done',
    )
    assert.equal(deliveries, 2)
  })

  it('ends a run at its time limit, also inside a statement, and keeps nothing of it', async () => {
    const slow = job({ timeout: 150, attempts: 1 })
    let aborted = false
    await work([
      handle(slow, async ({ n }, run) => {
        run.signal.addEventListener('abort', () => {
          aborted = true
        })
        await data.write(async (tx) => {
          await effect(tx, slow.name, n)
          await tx`select pg_sleep(60)`
        })
      }),
    ])
    const ref = await enqueue(slow)
    await until(async () => (await stateOf(ref.id!))?.state === 'dead', 'it was ended')
    assert.ok(aborted)
    assert.match((await stateOf(ref.id!))!.error!, /JOB_TIMEOUT/)
    assert.deepEqual(await effects(slow.name), [])
  })

  it('is told of a cancellation, and shows its progress', async () => {
    const long = job({ keep: true })
    let reason: unknown
    await work([
      handle(long, async (_, run: JobRun<Tx>) => {
        run.progress(0.25, 'a quarter')
        await new Promise((_resolve, reject) => {
          run.signal.addEventListener('abort', () => {
            reason = run.signal.reason
            reject(run.signal.reason)
          })
        })
      }),
    ])
    const { id } = await enqueue(long)
    const jobs = jobsOf(primitives.stores.main.queue)
    const seen = await until(async () => {
      const found = await jobs.find(id!)
      return found?.progress ? found : undefined
    }, 'its progress shows')
    assert.deepEqual([seen.state, seen.progress], ['running', { share: 0.25, note: 'a quarter' }])
    assert.equal(await jobs.cancel(id!), true)
    await until(async () => (await jobs.find(id!))?.state === 'cancelled', 'it was cancelled')
    assert.ok(isRungError(reason, 'JOB_CANCELLED'))
    assert.equal(await jobs.cancel(id!), false)
  })

  it('never runs more at once than its limits, here and over all workers', async () => {
    const narrow = job({ concurrency: 2 })
    const single = job({ fleetConcurrency: 3 })
    const most = { narrow: 0, single: 0 }
    const now = { narrow: 0, single: 0 }
    let done = 0
    const busy = (which: 'narrow' | 'single') => async () => {
      now[which] += 1
      most[which] = Math.max(most[which], now[which])
      await data.pool.query('select pg_sleep(0.01)')
      now[which] -= 1
      done += 1
    }
    await work([handle(narrow, busy('narrow')), handle(single, busy('single'))])
    await work([handle(single, busy('single'))], other)
    await data.write((tx) => {
      for (let n = 0; n < 20; n += 1) {
        tx.enqueue(narrow, { n })
        tx.enqueue(single, { n })
      }
    })
    await until(() => done === 40, 'all are done')
    assert.deepEqual(most, { narrow: 2, single: 3 })
  })

  it('hands back what has not begun and what does not end, without counting a try', async () => {
    const endless = job({ concurrency: 1 })
    let began = 0
    const stop = await work(
      [
        handle(endless, async (_, run) => {
          began += 1
          await new Promise((_resolve, reject) => run.signal.addEventListener('abort', reject))
        }),
      ],
      other,
      20,
    )
    const refs = [await enqueue(endless), await enqueue(endless)]
    await until(() => began === 1, 'one has begun')
    await stop()
    assert.equal(began, 1)
    for (const { id } of refs) {
      const listed = await stateOf(id!)
      assert.deepEqual([listed?.state, listed?.failures], ['waiting', 0])
    }
    await stop() // twice is the same as once
  })

  it('leaves what only another version of the app can do', async () => {
    const queue = `shared-${names}`
    const known = job({ queue })
    const unknown = job({ queue })
    await work([handle(known, ({ n }) => data.write((tx) => effect(tx, known.name, n)))])
    const ref = await enqueue(unknown)
    await enqueue(known, 1)
    await until(async () => (await effects(known.name)).length === 1, 'the known one is done')
    await until(async () => (await stateOf(ref.id!))?.state === 'delayed', 'the unknown one is put aside')
    assert.equal((await stateOf(ref.id!))?.failures, 0)
  })

  it('works in the trace of whoever enqueued, at a position that covers his', async () => {
    const traced = job()
    const seen = Promise.withResolvers<Scope>()
    await work([handle(traced, () => seen.resolve(currentScope()!))])
    const scope = new Scope('request', 'r1', 'POST /')
    scope.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await runInScope(scope, () => enqueue(traced))
    const ran = await seen.promise
    assert.equal(ran.traceparent, scope.traceparent)
    assert.ok(scope.position.size > 0)
    assert.ok(covers(ran.position, scope.position))
    assert.equal(ran.kind, 'job')
  })

  it('completes once: a second time is an error, and later writes are free', async () => {
    const twice = job()
    const failed = Promise.withResolvers<unknown>()
    await work([
      handle(twice, async ({ n }, run) => {
        await run.complete((tx) => effect(tx, twice.name, n))
        await data.write((tx) => effect(tx, twice.name, n + 1))
        await run.complete((tx) => effect(tx, twice.name, 99)).catch(failed.resolve)
      }),
    ])
    const ref = await enqueue(twice)
    assert.ok(isRungError(await failed.promise))
    assert.deepEqual(await effects(twice.name), [0, 1])
    assert.equal(await stateOf(ref.id!), undefined)
  })

  it('gives a handler of an event its transaction: rolled back together, done together', async () => {
    const Happened = event(Input)
    let failures = 0
    await work([
      on(
        Happened,
        async ({ payload, attempt }, tx) => {
          await effect(tx, Happened.name, payload.n)
          if (attempt === 1) {
            failures += 1
            throw new Error('once')
          }
        },
        { group: `group-${names}`, ...fast },
      ),
    ])
    await data.write((tx) => {
      tx.publish(Happened, { n: 1 })
      tx.publish(Happened, { n: 2 })
    })
    await until(async () => (await effects(Happened.name)).length === 2, 'both are done')
    assert.equal(failures, 2)
    assert.deepEqual(await effects(Happened.name), [1, 2])
  })

  it('refuses what does not match its schema, and rolls back', async () => {
    const strict = job()
    const Strict = event(Input)
    for (const [code, write] of [
      ['JOB_INVALID', (tx: Tx) => void tx.enqueue(strict, { n: 'one' } as never)],
      ['EVENT_INVALID', (tx: Tx) => tx.publish(Strict, {} as never)],
    ] as const) {
      await assert.rejects(
        data.write(async (tx) => {
          await effect(tx, strict.name, 1)
          write(tx)
        }),
        (error) => isRungError(error, code),
      )
    }
    assert.deepEqual(await effects(strict.name), [])
    assert.throws(() => defineJob('Not A Name', Input), /APP_INVALID|no name/)
    assert.throws(() => defineJob('a.b', Input, { concurrency: 0 }), /concurrency/)
  })

  it('fires a cron once, however many look', async () => {
    const tick = job({ keep: true })
    const list = () => [cron('* * * * * *', tick, { n: 1 }, { name: tick.name }), handle(tick, () => {})]
    const began = performance.now()
    const ends = [await work(list()), await work(list(), other)]
    const ended = () => primitives.stores.main.queue.list({ queues: [tick.name], limit: 100 })
    await until(async () => (await ended()).length >= 3, 'it has fired three times')
    for (const end of ends) await end()
    const seconds = (performance.now() - began) / 1_000
    const fired = (await ended()).length
    assert.ok(fired <= seconds + 1, `fired ${fired} times in ${seconds} s`)
  })

  it('a cron goes on from now after a clock that was wrong, and begins anew with other times', async () => {
    const tick = job()
    const ran = Promise.withResolvers<void>()
    let count = 0
    const at = (pattern: string) => [
      cron(pattern, tick, { n: 1 }, { name: tick.name }),
      handle(tick, () => {
        count += 1
        ran.resolve()
      }),
    ]
    const entry = async () => {
      const text = 'select last_at > now() as ahead, times from rung.cron where name = $1'
      return (await data.pool.query(text, [tick.name])).rows[0] as { ahead: boolean; times: string }
    }
    await data.pool.query("insert into rung.cron (name, last_at) values ($1, now() + interval '1 year')", [tick.name])
    const stop = await work(at('* * * * * *'))
    await ran.promise
    await stop()
    assert.equal((await entry()).ahead, false)
    // Times that were not there while they would have been due have missed nothing.
    await data.pool.query("update rung.cron set last_at = now() - interval '1 hour' where name = $1", [tick.name])
    const minute = new Date(Date.now() - 1_800_000).getUTCMinutes()
    const fired = count
    const end = await work(at(`${minute} * * * *`))
    await until(async () => (await entry()).times === `${minute} * * * * UTC`, 'the entry has its new times')
    await end()
    assert.equal(count, fired)
  })

  it('keeps how the last run of a cron ended, on which process, whoever enqueued it', async () => {
    const tick = job({ attempts: 1 })
    const list = (fails: boolean) => [
      cron('0 0 1 1 *', tick, { n: 1 }, { name: tick.name, timeZone: 'Europe/Berlin' }),
      handle(tick, () => {
        if (fails) throw new Error('no\0 tick \ud800')
      }),
    ]
    const entry = async () => (await readCrons(primitives.stores.main.database)).find(({ name }) => name === tick.name)
    const ends = await work(list(true), other)
    await until(async () => (await entry()) !== undefined, 'the entry has begun')
    const { pattern, timeZone, job: known, overdue, lastRun } = (await entry())!
    assert.deepEqual(
      { pattern, timeZone, known, overdue, lastRun },
      { pattern: '0 0 1 1 *', timeZone: 'Europe/Berlin', known: tick.name, overdue: false, lastRun: null },
    )
    const ref = await enqueue(tick)
    await until(async () => (await stateOf(ref.id!))?.state === 'dead', 'it is dead')
    await ends()
    const failed = (await entry())!.lastRun!
    assert.deepEqual([failed.outcome, failed.error], ['dead', 'no tick \ufffd'])
    assert.match(failed.worker, new RegExp(`:${process.pid}:`))
    const end = await work(list(false))
    const again = await enqueue(tick)
    await until(async () => (await stateOf(again.id!)) === undefined, 'it is done')
    await end()
    const done = (await entry())!.lastRun!
    assert.deepEqual([done.outcome, done.error], ['done', undefined])
    assert.notEqual(done.worker, failed.worker)
  })

  it('a key or a unique text of any length and any letters is taken', async () => {
    const keyed = job({ key: () => 'k'.repeat(10_000) })
    const run: number[] = []
    await work([handle(keyed, ({ n }) => void run.push(n))])
    const Odd = event(Input)
    for (const unique of ['u'.repeat(10_000), 'a\0b', '\ud800']) {
      await data.write((tx) => {
        for (const n of [1, 2]) tx.enqueue(keyed, { n }, { unique, delay: '50ms' })
        tx.publish(Odd, { n: 1 }, { key: unique })
      })
    }
    await until(async () => run.length >= 3, 'one of each is run')
    assert.equal(run.length, 3)
  })

  it('refuses two crons of one name, a wrong pattern, a wrong time zone', async () => {
    const tick = job()
    for (const list of [
      [cron('0 9 * * *', tick, { n: 1 }), cron('0 10 * * *', tick, { n: 1 })],
      [cron('61 9 * * *', tick, { n: 1 })],
      [cron('0 9 * * *', tick, { n: 1 }, { timeZone: 'Mars/Olympus' })],
    ]) {
      const all: AppWork = { jobs: [], consumed: [], crons: [] }
      assert.throws(
        () => addWork(all, 'm', list, primitives),
        (error) => isRungError(error, 'APP_INVALID'),
      )
    }
  })
})

describe('the state of a cron', () => {
  const row = { name: 'n', last_at: '2026-03-01T09:00:00Z', times: '0 30 9 * * * Europe/Berlin', job: 'm.n' }
  const at = (time: string) => cronState(row, Date.parse(time))

  it('has the next time in its time zone, and is overdue a minute after one was missed', () => {
    assert.deepEqual(at('2026-03-01T12:00:00Z'), {
      ...{ name: 'n', pattern: '0 30 9 * * *', timeZone: 'Europe/Berlin', job: 'm.n', lastRun: null },
      ...{ nextAt: '2026-03-02T08:30:00.000Z', overdue: false },
    })
    assert.equal(at('2026-03-02T08:30:59Z').overdue, false)
    assert.equal(at('2026-03-02T08:31:01Z').overdue, true)
  })

  it('is known as far as an older version of Rung has written it', () => {
    const { pattern, nextAt, overdue, job } = cronState({ name: 'n', last_at: row.last_at, times: null }, 0)
    assert.deepEqual({ pattern, nextAt, overdue, job }, { pattern: '', nextAt: null, overdue: false, job: null })
  })
})

describe('the last moment that is due', () => {
  const entry = (pattern: string, timeZone = 'UTC') => ({ name: 'n', pattern, timeZone, job: {} as never, input: {} })
  const cases: [string, string, string, string, string, string | undefined][] = [
    ['nothing yet', '0 9 * * *', 'UTC', '2026-03-01T09:00:00Z', '2026-03-02T08:59:59Z', undefined],
    ['now', '0 9 * * *', 'UTC', '2026-03-01T09:00:00Z', '2026-03-02T09:00:00Z', '2026-03-02T09:00:00Z'],
    ['the last of many', '0 9 * * *', 'UTC', '2026-03-01T09:00:00Z', '2026-03-09T12:00:00Z', '2026-03-09T09:00:00Z'],
    [
      'winter in Berlin',
      '0 9 * * *',
      'Europe/Berlin',
      '2026-03-27T10:00:00Z',
      '2026-03-28T10:00:00Z',
      '2026-03-28T08:00:00Z',
    ],
    [
      'summer in Berlin',
      '0 9 * * *',
      'Europe/Berlin',
      '2026-03-28T10:00:00Z',
      '2026-03-29T10:00:00Z',
      '2026-03-29T07:00:00Z',
    ],
    ['done already', '0 9 * * *', 'UTC', '2026-03-02T09:00:00Z', '2026-03-02T09:00:30Z', undefined],
  ]
  for (const [name, pattern, timeZone, since, now, due] of cases) {
    it(name, () => {
      const found = lastDue(entry(pattern, timeZone), new Date(since), new Date(now))
      assert.equal(found?.toISOString(), due === undefined ? undefined : new Date(due).toISOString())
    })
  }
})
