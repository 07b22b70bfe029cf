import assert from 'node:assert/strict'
import { it } from 'node:test'
import { connectOnce } from '../../../src/engines/postgres/client.ts'
import { observe } from '../../../src/observe/observe.ts'
import { makeTimeMovable, testClock } from '../../../src/testing/clock.ts'
import { bootForTest } from '../../support/app.ts'
import shop from '../../support/apps/shop/app.ts'
import { testPostgres, urlOf } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { openWebhook } from '../../support/webhook.ts'

it('a running app whose pool is used up says so within minutes, once, and once that it is over', async (t) => {
  makeTimeMovable()
  const postgres = await testPostgres()
  const webhook = await openWebhook()
  const connection = await postgres.createDatabase()
  const client = await connectOnce(connection)
  const ends: (() => unknown)[] = [() => postgres.stop(), () => webhook.close(), () => client.end()]
  t.after(async () => {
    for (const end of ends.toReversed()) await end()
  })
  const app = await bootForTest(shop, postgres, {}, [observe({ app: shop })], {
    DATABASE_URL: urlOf(connection),
    RUNG_RECORD: 'on',
    RUNG_ALERTS: 'on',
    RUNG_ALERT_WEBHOOK: webhook.url,
    RUNG_POOL_WRITE: '4',
  })
  const number = async (query: string) => Number((await client.query(query)).rows[0]?.n ?? 0)
  const running = `select count(*) as n from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`
  /** The next whole minute, and the evaluation of it. */
  async function pass(): Promise<void> {
    const frames = await number('select count(*) as n from rung.frame')
    await until(async () => (await number(running)) === 0, 'no statement runs')
    await testClock.advance(60_000 - (Date.now() % 60_000) + 50)
    await until(async () => (await number('select count(*) as n from rung.frame')) > frames, 'the minute is recorded')
    const minute = Math.floor(Date.now() / 60_000) * 60
    const evaluated = `select extract(epoch from max(evaluated_until)) as n from rung.alert_look`
    // A look that was due in between may still run, and the next one is due only after it. Time stands still while a statement runs, which would
    // seem to take minutes.
    await until(async () => {
      if ((await number(running)) === 0) await testClock.advance('5s')
      return (await number(evaluated)) >= minute
    }, 'the minute is evaluated')
  }
  let stopped: Promise<void> | undefined
  const stop = () => {
    stopped ??= app.stop()
    return stopped
  }
  ends.push(stop)
  await pass()
  const [database] = app.data.databases
  const held = await Promise.all(
    Array.from({ length: 4 }, () => database!.connect({ target: 'write', deadlineAt: Number.POSITIVE_INFINITY })),
  )
  const release = () => {
    for (const one of held.splice(0)) one.release()
  }
  ends.push(release)
  let minutes = 0
  while (webhook.posts.length === 0 && minutes < 10) {
    await pass()
    minutes += 1
    if ((await number(`select count(*) as n from rung.alert where state = 'firing'`)) > 0) await webhook.until(1)
  }
  // Four of five minutes are needed for 80 %, then two more.
  assert.ok(minutes <= 8, `after ${minutes} minutes`)
  assert.match(webhook.posts[0]!.text, /^shop: pool-used \(main write\) fires \[page\]\n.*: (8|9|10)\d\.0 %, since/)
  release()
  for (minutes = 0; minutes < 15 && (await number('select count(*) as n from rung.alert')) > 0; minutes += 1)
    await pass()
  await webhook.until(2)
  assert.match(webhook.posts[1]!.text, /^shop: pool-used \(main write\) has ended/)
  assert.equal(await number('select count(*) as n from rung.incident where closed_at is not null'), 1)
  await stop()
  assert.equal(webhook.posts.length, 2)
})
