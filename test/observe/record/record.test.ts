import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { main } from '../../../src/cli/main.ts'
import { type Client, type ConnectionConfig, connectOnce } from '../../../src/engines/postgres/client.ts'
import { observe } from '../../../src/observe/observe.ts'
import { type Frame, nothing, pack, type Snapshot } from '../../../src/observe/record/frame.ts'
import { counted, distributed } from '../../../src/observe/record/groups.ts'
import { looker } from '../../../src/observe/record/look.ts'
import { createRecorder } from '../../../src/observe/record/recorder.ts'
import { coveredMs } from '../../../src/observe/record/summary.ts'
import { addFrame, describeRecord, mergeOld, readRecord } from '../../../src/observe/record/table.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { openRecordLease } from '../../../src/runtime/wire.ts'
import { bootForTest } from '../../support/app.ts'
import shop from '../../support/apps/shop/app.ts'
import { openPostgres, openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'

const minuteMs = 60_000
const dayMs = 86_400_000
/** A whole hour. */
const begin = Date.UTC(2026, 9, 25)

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

async function open(): Promise<{ database: Database; connection: ConnectionConfig; client: Client }> {
  const { database, connection } = await openSystemTables(postgres)
  return { database, connection, client: await connectOnce(connection) }
}

/** Minutes of two processes, the second of which was started later; each minute counts one more than the one before. */
async function writeMinutes(database: Database, minutes: number): Promise<number> {
  let sum = 0
  for (let minute = 0; minute < minutes; minute += 1) {
    for (const node of minute < 20 ? ['a'] : ['a', 'b']) {
      const from = begin + minute * minuteMs
      const frame = { from, to: from + minuteMs, ms: minuteMs, ...nothing, counters: { n: { '{}': minute + 1 } } }
      await addFrame(database, { node, from, to: frame.to, content: pack([frame]) })
      sum += minute + 1
    }
  }
  return sum
}

/** Waits until an insert waits for a lock, and ends it or its session. */
async function endWaiting(
  { database }: ConnectionConfig,
  how: 'pg_cancel_backend' | 'pg_terminate_backend',
): Promise<void> {
  const admin = await connectOnce({ ...postgres.admin, database: database! })
  for (let ended = false; !ended; ) {
    const { rows } = await admin.query(
      `select ${how}(pid) from pg_stat_activity
        where datname = $1 and wait_event_type = 'Lock' and query like 'insert into rung.frame%'`,
      [database],
    )
    ended = rows.length > 0
  }
  await admin.end()
}

async function readAll(database: Database, resolutionMs = minuteMs): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const slice of readRecord(database, { from: begin, to: begin + dayMs, resolutionMs }))
    frames.push(...slice.frames)
  return frames
}

const sumOf = (frames: readonly Frame[]) => counted(frames, 'n', [])[0]?.value

describe('what was recorded', () => {
  it('becomes coarser with age, and nothing is counted twice or lost, whoever merges', async () => {
    const { database, client } = await open()
    const sum = await writeMinutes(database, 70)
    assert.equal(sumOf(await readAll(database)), sum)
    const rowsBySeconds = async () => {
      const { rows } = await client.query(
        'select seconds, count(*)::int as n from rung.frame group by seconds order by seconds',
      )
      return rows.map(({ seconds, n }) => [seconds, n])
    }
    // How many rows of a day there are depends on who merges when.
    const resolutions = async () => (await rowsBySeconds()).map(([seconds]) => seconds)
    const mergeAtOnce = (now: number) => Promise.all([1, 2, 3].map(() => mergeOld(database, now)))

    await mergeAtOnce(begin + 2 * dayMs + 65 * minuteMs)
    assert.equal(sumOf(await readAll(database)), sum)
    // The first hour is over two days old, and has six tens of "a" and four of "b".
    assert.deepEqual(await rowsBySeconds(), [
      [60, 10 + 10],
      [600, 1 + 1],
    ])
    assert.equal((await readAll(database)).length, 20 + 6 + 4)
    await mergeAtOnce(begin + 15 * dayMs)
    assert.equal(sumOf(await readAll(database)), sum)
    assert.deepEqual(await resolutions(), [3_600])

    // A minute that could not be written then.
    const [from, to] = [begin + minuteMs, begin + 2 * minuteMs]
    const late = { from, to, ms: minuteMs, ...nothing, counters: { n: { '{}': 1_000 } } }
    const row = { node: 'b', from, to, content: pack([late]) }
    await addFrame(database, row)
    await addFrame(database, row) // the answer to the first was lost
    await mergeAtOnce(begin + 15 * dayMs)
    assert.equal(sumOf(await readAll(database)), sum + 1_000)
    assert.deepEqual(await resolutions(), [3_600])
    const hours = await readAll(database, 3_600_000)
    assert.equal(hours.length, 4)
    assert.deepEqual(
      hours.filter(({ node }) => node === 'b').map(({ from, to, ms }) => [from - begin, to - begin, ms]),
      [
        [minuteMs, 60 * minuteMs, 41 * minuteMs],
        [60 * minuteMs, 70 * minuteMs, 10 * minuteMs],
      ],
    )

    await mergeOld(database, begin + 401 * dayMs)
    assert.deepEqual(await rowsBySeconds(), [])
    await client.end()
    await database.close()
  })

  it('is as before when the process that merges dies in the middle', async () => {
    const { database, client, connection } = await open()
    const sum = await writeMinutes(database, 10)
    // The merge waits here: it has taken the minutes out, and the row that it puts in their place exists, perhaps.
    await client.query('begin')
    await client.query(`insert into rung.frame values (600, $1, 'a', $1, '')`, [new Date(begin)])
    const died = assert.rejects(mergeOld(database, begin + 3 * dayMs))
    await endWaiting(connection, 'pg_terminate_backend')
    await died
    await client.query('rollback')
    assert.equal((await readAll(database)).length, 10)
    assert.equal(sumOf(await readAll(database)), sum)
    await mergeOld(database, begin + 3 * dayMs)
    const frames = await readAll(database)
    assert.deepEqual([frames.length, sumOf(frames)], [1, sum])
    await client.end()
    await database.close()
  })

  it('is read slice by slice, and a gap stays a gap', async () => {
    const { database, client } = await open()
    assert.deepEqual(await describeRecord(database), { ...{ from: null, to: null, rows: [], gaps: [] }, bytes: 16_384 })
    await writeMinutes(database, 30)
    await client.query('delete from rung.frame where started_at >= $1 and started_at < $2', [
      new Date(begin + 10 * minuteMs),
      new Date(begin + 15 * minuteMs),
    ])
    const slices = []
    const window = { from: begin + 5 * minuteMs, to: begin + 22 * minuteMs, resolutionMs: 5 * minuteMs }
    for await (const { from, frames } of readRecord(database, window))
      slices.push([(from - begin) / minuteMs, frames.map(({ node, ms }) => `${node} ${ms / minuteMs}`).join()])
    assert.deepEqual(slices, [
      [5, 'a 5'],
      [15, 'a 5'],
      [20, 'a 2,b 2'],
    ])
    const facts = await describeRecord(database)
    assert.deepEqual(facts!.gaps, [{ from: begin + 10 * minuteMs, to: begin + 15 * minuteMs }])
    assert.deepEqual([facts!.from, facts!.to], [begin, begin + 30 * minuteMs])
    await client.query('drop table rung.frame')
    assert.equal(await describeRecord(database), undefined)
    await client.end()
    await database.close()
  })
})

describe('a recorder', () => {
  /** A process with a clock that the test moves. */
  function processOf(database: Database, node: string) {
    const clock = { time: begin, passed: 0, now: () => clock.time, ticks: () => clock.passed }
    const counts = { n: 0 }
    const troubles: unknown[] = []
    const recorder = createRecorder({
      ...{ node, database, clock },
      lease: openRecordLease(database),
      async read(shared): Promise<Snapshot> {
        return { ...nothing, counters: { n: { '{}': counts.n } }, gauges: shared ? { jobs: { '{}': 7 } } : {} }
      },
      take: () => nothing,
      look: async () => ({ ...nothing, gauges: { db_bytes: { '{}': { min: 1, max: 1, sum: 1, count: 1 } } } }),
      trouble: (error) => troubles.push(error),
    })
    const pass = (ms = minuteMs) => {
      clock.time += ms
      clock.passed += minuteMs
      counts.n += 1
      return recorder.record()
    }
    return { recorder, clock, counts, troubles, pass }
  }

  it('of each process writes its own growth, and one of them what all share', async () => {
    const { database, client } = await open()
    const [a, b] = [processOf(database, 'a'), processOf(database, 'b')]
    for (let minute = 0; minute < 12; minute += 1) {
      await a.pass()
      await b.pass()
    }
    const frames = await readAll(database)
    assert.deepEqual(counted(frames, 'n', ['node']), [
      { labels: { node: 'a' }, value: 12 },
      { labels: { node: 'b' }, value: 12 },
    ])
    const having = (metric: string) => frames.filter(({ gauges }) => gauges[metric]).map(({ node }) => node)
    assert.deepEqual(having('jobs'), Array(12).fill('a'))
    assert.deepEqual(having('db_bytes'), ['a', 'a'], 'at once, and after ten minutes')

    a.counts.n += 5
    a.clock.time += 10_000
    a.clock.passed += 10_000
    await a.recorder.end()
    await b.pass()
    const later = (await readAll(database)).filter(({ from }) => from >= begin + 12 * minuteMs)
    assert.deepEqual(
      later.map(({ node, ms, counters, gauges }) => [node, ms, counters.n!['{}'], gauges.jobs !== undefined]),
      [
        ['a', 10_000, 5, false],
        ['b', minuteMs, 1, true],
      ],
    )
    assert.deepEqual([a.troubles, b.troubles], [[], []])
    await client.end()
    await database.close()
  })

  it('goes on at once where the clock is set, and its frames are as long as they were measured', async () => {
    const { database, client } = await open()
    const a = processOf(database, 'a')
    const hour = 60 * minuteMs
    await a.pass()
    await a.pass(hour + minuteMs) // it jumps forward
    await a.pass()
    await a.pass(-hour + minuteMs) // and back
    const minutesOf = (frames: readonly Frame[]) =>
      frames.map(({ from, to, ms, counters }) => [
        ...[from - begin, to - begin, ms].map((time) => time / minuteMs),
        counters.n!['{}'],
      ])
    assert.deepEqual(minutesOf(await readAll(database)), [
      [0, 1, 1, 1],
      [3, 4, 1, 1],
      [61, 62, 1, 1],
      [62, 63, 1, 1],
    ])
    // The second time that it is that late: both frames of a minute count.
    for (let minute = 5; minute <= 63; minute += 1) {
      if (minute > 61) a.counts.n += 1
      await a.pass()
    }
    const frames = await readAll(database)
    assert.equal(sumOf(frames), a.counts.n)
    assert.deepEqual(minutesOf(frames).slice(-2), [
      [61, 62, 2, 3],
      [62, 63, 2, 3],
    ])
    const [, second] = await readAll(database, hour)
    assert.equal(coveredMs([second!]), 5 * minuteMs)
    const { rows } = await client.query('select count(*)::int as n from rung.frame')
    assert.equal(rows[0].n, 63)
    const looks = (await readAll(database))
      .filter(({ gauges }) => gauges.db_bytes)
      .map(({ to }) => (to - begin) / minuteMs)
    assert.deepEqual(looks, [1, 4, 10, 20, 30, 40, 50, 60, 62])
    await client.end()
    await database.close()
  })

  it('keeps six hours while its table is missing, says so once, and writes them later', async () => {
    const { database, client } = await open()
    const a = processOf(database, 'a')
    await client.query('alter table rung.frame rename to away')
    for (let minute = 0; minute < 365; minute += 1) await a.pass()
    assert.equal(a.troubles.length, 1)
    assert.match(String(a.troubles[0]), /frame/)
    await client.query('alter table rung.away rename to frame')
    await a.pass()
    assert.equal(a.troubles.length, 2)
    assert.equal(a.troubles[1], undefined)
    const frames = await readAll(database)
    assert.equal(sumOf(frames), 360)
    assert.equal(frames.at(-1)!.to, begin + 366 * minuteMs)
    await client.end()
    await database.close()
  })

  it('goes on when its table is locked', async () => {
    const { database, client, connection } = await open()
    const a = processOf(database, 'a')
    await client.query('begin')
    await client.query('lock table rung.frame')
    const passing = a.pass()
    await endWaiting(connection, 'pg_cancel_backend') // as its limit would, after ten seconds
    await passing
    assert.equal(a.troubles.length, 1)
    await client.query('rollback')
    await a.pass()
    assert.equal(sumOf(await readAll(database)), 2)
    assert.deepEqual(a.troubles.slice(1), [undefined])
    await client.end()
    await database.close()
  })
})

it('a look has the sizes of tables, and statements that ran since the last look', async () => {
  const { database, client, connection } = await open()
  const admin = await connectOnce({ ...postgres.admin, database: connection.database! })
  await admin.query('create extension pg_stat_statements')
  await admin.end()
  await client.query(`create table public.thing as select generate_series(1, 10000) as id`)
  await client.query('analyze public.thing')
  const { pid } = process
  const users = { database, table: 'public.thing' }
  const servers = async () => [{ name: 'postgres', pid }]
  const look = looker({ databases: [database], servers, users })
  await client.query('select count(*) from public.thing where id > 5')
  assert.deepEqual(Object.keys((await look()).counters), [])
  const began = process.cpuUsage()
  while (process.cpuUsage(began).user < 100_000);
  for (const least of [1, 2, 3]) await client.query('select count(*) from public.thing where id > $1', [least])
  const { counters, gauges } = await look()
  const thing = '{"database":"main","table":"public.thing"}'
  assert.equal(gauges.db_table_rows![thing]!.sum, 10_000)
  assert.equal(gauges.users_registered!['{}']!.sum, 10_000)
  const unknown = looker({ databases: [database], servers, users: { database, table: 'public.none' } })
  await assert.rejects(unknown(), /users\.table of defineApp is "public\.none", and there is no such table/)
  assert.ok(gauges.db_table_bytes![thing]!.sum > 300_000)
  assert.ok(gauges.db_bytes!['{"database":"main"}']!.sum > 5_000_000)
  const calls = Object.entries(counters.db_statement_calls_total!)
  const [, three] = calls.find(([key]) => key.includes('select count(*) from public.thing where id > $1'))!
  assert.equal(three, 3)
  const own = '{"server":"postgres"}'
  const [used, time] = [counters.server_cpu_seconds_total![own]!, counters.server_measured_seconds_total![own]!]
  assert.ok(used >= 0.08 && time > 0, `${used} s in ${time} s`)
  if (process.platform === 'linux') assert.ok(gauges.server_memory_bytes![own]!.sum > 20_000_000)
  await client.end()
  await database.close()
})

it('a running app records its requests, and stops as ever where the table is missing', async () => {
  const connection = await postgres.createDatabase()
  const settings = { DATABASE_URL: urlOf(connection), RUNG_RECORD: 'on' }
  const run = async (before: () => Promise<unknown> = async () => {}) => {
    const app = await bootForTest(shop, postgres, {}, [observe()], settings)
    await before()
    const { status } = await fetch(`${app.url}/items/999`)
    await app.stop()
    return status
  }
  const from = Date.now()
  assert.equal(await run(), 404)
  const database = await openPostgres(postgres, { connection })
  const frames: Frame[] = []
  for await (const slice of readRecord(database, { from: from - 1, to: Date.now(), resolutionMs: minuteMs }))
    frames.push(...slice.frames)
  const requests = distributed(frames, 'http_request_duration_seconds', ['route', 'status', 'module'])
  assert.deepEqual(
    requests.map(({ labels, value }) => [labels, Object.values(value.counts)]),
    [[{ route: '/items/:id', status: '404', module: 'stock' }, [1]]],
  )
  for (const metric of ['process_cpu_user_seconds_total', 'nodejs_eventloop_busy_seconds_total'])
    assert.ok(counted(frames, metric, [])[0]!.value > 0, metric)

  const output: string[] = []
  const out = { line: (text = '') => void output.push(text), note() {}, json() {} }
  const env = { DATABASE_URL: urlOf(connection) }
  assert.equal(await main(['record', '--route', '/items'], env, process.cwd(), out), 0)
  assert.match(output[0]!, /^recorded from 20.* UTC: \d+ KiB, 1 frame$/)
  assert.match(output.find((line) => line.startsWith('GET '))!, /^GET \/items\/:id +\d+\.\d\d( +\d\S* m?s){3} +0\.0 %$/)
  assert.match(output.slice(-2).join(' '), /^Rows of Postgres .* after two looks at the same process/)
  assert.match(output.at(-3)!, /:[\w-]{4} +both +\d\S* m?s +\d+\.\d % +\d+\.\d %( +\d+ MiB){2}$/)
  for (const line of output) assert.ok(line.length <= 80, line)
  assert.equal(await main(['record', '--since', '1x'], env, process.cwd(), out), 1)
  output.length = 0
  assert.equal(await main(['record', 'peaks'], env, process.cwd(), out), 0)
  assert.deepEqual(output, ['No whole day was recorded yet.'])

  const client = await connectOnce(connection)
  assert.equal(await run(() => client.query('drop table rung.frame')), 404)
  await client.end()
  await database.close()
})
