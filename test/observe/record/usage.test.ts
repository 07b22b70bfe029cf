import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { main } from '../../../src/cli/main.ts'
import { readRecorded } from '../../../src/cli/recorded.ts'
import { systemClock } from '../../../src/kernel/clock.ts'
import { type Frame, keyOf, nothing, pack } from '../../../src/observe/record/frame.ts'
import { addTo } from '../../../src/observe/record/sketch.ts'
import { addFrame } from '../../../src/observe/record/table.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const weeks = 6

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

async function plan(url: string, ...args: string[]): Promise<{ lines: string[]; document: unknown }> {
  const lines: string[] = []
  let document: unknown
  const out = {
    line: (text = '') => void lines.push(text),
    note() {},
    json(value: unknown) {
      document = JSON.parse(JSON.stringify(value))
    },
  }
  const env = { DATABASE_URL: url, RUNG_CONFIG: 'none', RUNG_NODE_CPU: '0.5' }
  const code = await main(['plan', '1k', '--cores', '4', ...args], env, process.cwd(), out)
  assert.equal(code, 0, lines.join('\n'))
  return { lines, document }
}

interface Figure {
  likely: number
  from: string
}
interface Document {
  users: Record<string, Figure>
  recorded: { days: number } | null
  date?: Figure & { unknown?: string }
  times?: { rate: number }
}

const textOf = async (...args: Parameters<typeof plan>) => (await plan(...args)).lines.join(' ')
const planned = async (url: string, ...args: string[]) => (await plan(url, ...args, '--json')).document as Document

/** An hour of one process: requests to a route and health checks, and who sent them. */
function hourOf(from: number, requests: number, users: readonly number[]): Frame {
  const seen: Record<string, number> = {}
  for (const user of users) addTo(seen, `user-${user}`)
  const answers = (route: string, count: number) => [
    keyOf({ method: 'GET', route, status: 200 }),
    { sum: count / 100, counts: { '0.005..0.01': count } },
  ]
  return {
    ...{ node: 'a', from, to: from + hourMs, ms: hourMs, ...nothing },
    histograms: {
      http_request_duration_seconds: Object.fromEntries([answers('/things', requests), answers('/healthz', 3_600)]),
    },
    // 2 ms of CPU for each request.
    counters: { process_cpu_user_seconds_total: { '{}': requests / 500 } },
    gauges: {
      process_info: { '{"role":"both"}': { min: 1, max: 1, sum: 1, count: 1 } },
      users_registered: { '{}': { min: 0, max: 2_000 + requests, sum: 0, count: 1 } },
    },
    sketches: { users_active: { '{}': seen } },
  }
}

it('what was recorded is the present of a plan, and its weeks are the trend', async () => {
  const { database, connection } = await openSystemTables(postgres)
  const now = systemClock.now()
  const today = Math.floor(now / dayMs) * dayMs
  assert.equal(await readRecorded(database, now), undefined)
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n)
  // Two hours of each day, 5 % more each week; in the second hour of a day come 300 of the users of the first, and 500 others.
  for (let day = 1; day <= weeks * 7; day += 1) {
    const growth = 1.05 ** (weeks - day / 7)
    for (const [hour, requests, users] of [
      [9, 360_000, range(0, 800)],
      [20, 180_000, range(500, 1_300)],
    ] as const) {
      const from = today - day * dayMs + hour * hourMs
      const { node, ...frame } = hourOf(from, Math.round(requests * growth), users)
      await addFrame(database, { node, from, to: frame.to, content: pack([frame]) })
    }
  }
  const { usage } = (await readRecorded(database, now))!
  const yesterday = Math.round(360_000 * 1.05 ** (weeks - 1 / 7))
  assert.equal(usage.peaks.length, weeks * 7 - 1, 'of the first day only a part was recorded')
  assert.equal(usage.rate, yesterday / 3_600)
  assert.ok(Math.abs(usage.daily! - 1_300) <= 130, String(usage.daily))
  assert.ok(Math.abs(usage.monthly! - 1_300) <= 130, String(usage.monthly))

  assert.equal(usage.isWholeMonth, true)
  assert.equal(
    (await readRecorded(database, now - 20 * dayMs))!.usage.isWholeMonth,
    false,
    'of that month 22 days were recorded',
  )

  const url = urlOf(connection)
  const { users, recorded, date } = await planned(url)
  const figures = Object.fromEntries(Object.entries(users).map(([name, { likely, from }]) => [name, [likely, from]]))
  assert.deepEqual(figures.registered, [usage.registered, 'measured'])
  assert.deepEqual(figures.daily, [usage.daily, 'measured'])
  assert.deepEqual(figures.rate, [usage.rate, 'measured'])
  assert.equal(figures.concurrent![1], 'prior')
  assert.equal(recorded!.days, usage.peaks.length)
  assert.ok(date && date.unknown === undefined, JSON.stringify(date))
  const text = await textOf(url)
  assert.match(text, /was recorded until 20.* UTC, with 41 whole days/)
  assert.match(text, /^rung 1k,.* Costs are those of production in the last week/)
  assert.match(text, / app +0\.5 +2 +measured /)

  const { daily, rate } = (await planned(url, '--users', String(2 * usage.registered!))).users
  assert.deepEqual(daily, { ...daily, likely: 2 * usage.daily!, from: 'measured' }, 'as many of them come as today')
  assert.ok(Math.abs(rate!.likely / (2 * usage.rate!) - 1) < 1e-9)
  assert.equal((await planned(url, '--times', '10')).times!.rate, 10 * usage.rate!)
  await database.close()
})

it('a plan without its record says why, and goes on', async () => {
  const nowhere = 'postgres://nobody@127.0.0.1:1/none'
  assert.match(await textOf(nowhere, '--rate', '10'), /The record could not be read, so it does not count: \S/)
  assert.equal((await planned(nowhere, '--rate', '10')).recorded, null)
})
