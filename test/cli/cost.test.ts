import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { type Frame, keyOf, nothing, pack } from '../../src/observe/record/frame.ts'
import { addFrame } from '../../src/observe/record/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'

const hourMs = 3_600_000
const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
after(() => rm(dir, { recursive: true, force: true }))

async function cost(env: Record<string, string>, ...args: string[]) {
  const lines: string[] = []
  let document: unknown
  const code = await main(['cost', ...args], { RUNG_CONFIG: 'none', ...env }, dir, {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void lines.push(text),
    json: (value) => {
      document = JSON.parse(JSON.stringify(value))
    },
  })
  return { code, lines, text: lines.join('\n').replaceAll(/(?<=\S)\n(?=\S)/g, ' '), document: document as never }
}

describe('rung cost without a record', () => {
  it('prices each rung that there is, in 80 columns, and names what is assumed', async () => {
    const { code, lines, text } = await cost({}, '100k', '--revenue', '0.5', '--rate', '5', '--times', '3')
    assert.equal(code, 0)
    assert.ok(Math.max(...lines.map(({ length }) => length)) <= 80)
    assert.ok(lines.some((line) => /^web +2 {2}4 × CPU, 16 GB/.test(line)))
    assert.ok(lines.some((line) => /^1m +— +\$20,000–80,000$/.test(line)))
    assert.match(text, /Assumed: 50 GB of object storage, 100 GB of traffic, 100,000 monthly users/)
    assert.match(text, /Of \$0\.5 that a user brings in a month it is 2\.2 %/)
    assert.match(text, /nothing was recorded/)
    const unknown = await cost({}, '100k', '--times', '5')
    assert.match(
      unknown.text,
      /What 5 times today's traffic costs is not known: no rate is recorded\. Say it with --rate\./,
    )
  })

  it('leaves a rung out that does not suit the settings of the one that runs', async () => {
    const { code, lines } = await cost({ RUNG_WEB: '14' }, '100k')
    assert.equal(code, 0)
    assert.ok(lines.some((line) => /^1k +—/.test(line)))
    assert.ok(lines.some((line) => /^100k +\$\d/.test(line)))
  })

  it('refuses to guess a price, and takes one from a file', async () => {
    const missing = await cost({}, '100k', '--list', 'hetzner')
    assert.equal(missing.code, 1)
    assert.match(missing.text, /PRICE_MISSING\)\n?.*no price of a load balancer/s)
    assert.match(missing.text, /"month":null/, 'the row is no price until someone fills it in')
    await writeFile(
      path.join(dir, 'prices.json'),
      '[{ "item": "balancer", "month": [6, 7], "source": "invoice", "date": "2026-11-01" }]',
    )
    const { code, document } = await cost({}, '100k', '--list', 'hetzner', '--prices', 'prices.json', '--json')
    assert.equal(code, 0)
    const lines = (document as { cost: { lines: { part: string; low: number; price: { source: string } }[] } }).cost
      .lines
    assert.deepEqual(
      lines.filter(({ part }) => part === 'balancer').map(({ low, price }) => [low, price.source]),
      [[6, 'invoice']],
    )
  })

  it('says what is wrong with prices and options', async () => {
    const bad = [
      ['x', /no valid price in row 1|is not JSON/],
      ['[{ "item": "balancer" }]', /no valid price in row 1/],
      ['[{ "item": "moon", "month": 1, "source": "s", "date": "2026-11-01" }]', /no valid price in row 1/],
      [
        '[{ "item": "server", "cores": 4, "month": 1, "source": "s", "date": "2026-11-01" }]',
        /no valid price in row 1/,
      ],
      ['[{ "item": "redis", "month": -1, "source": "s", "date": "2026-11-01" }]', /no valid price in row 1/],
      ['[{ "item": "redis", "month": 1e308, "source": "s", "date": "2026-11-01" }]', /no valid price in row 1/],
      ['[{ "item": "redis", "month": null, "source": "s", "date": "2026-11-01" }]', /no valid price in row 1/],
      ['{}', /not a list/],
    ] as const
    for (const [content, pattern] of bad) {
      await writeFile(path.join(dir, 'bad.json'), content)
      const { code, text } = await cost({}, '1k', '--prices', 'bad.json')
      assert.equal(code, 1)
      assert.match(text, pattern)
    }
    for (const args of [
      ['--prices', 'absent.json'],
      ['--list', 'moon'],
      ['--server', '4'],
      ['--users', '0'],
      ['--revenue', ''],
      ['--rate', '1e12', '--times', '2'],
      ['--rate', '10', '--times', '1e12'],
    ]) {
      const { code, text } = await cost({}, '1k', ...args)
      assert.equal(code, 1, args.join(' '))
      assert.match(text, /COMMAND_INVALID/)
    }
  })
})

describe('rung cost with a record', () => {
  let postgres: TestPostgres
  let connection: ConnectionConfig
  before(async () => {
    postgres = await testPostgres()
    const opened = await openSystemTables(postgres)
    connection = opened.connection
    const lastHour = Math.floor(Date.now() / hourMs) * hourMs - hourMs
    // 30 hours: a request takes 2 ms of CPU before the deploy, 3 ms in the 10 hours after it.
    for (let ago = 30; ago >= 1; ago -= 1) {
      const frame = frameOf(lastHour - ago * hourMs, ago > 10 ? 0.002 : 0.003)
      await addFrame(opened.database, { node: frame.node, from: frame.from, to: frame.to, content: pack([frame]) })
    }
    const client = await connectOnce(connection)
    await client.query(
      `insert into rung.deploy (build, previous, rung, started_by, outcome, started_at, ended_at)
        values ('newer', 'older', '1k', 'rung deploy', 'done', $1, $1)`,
      [new Date(lastHour - 10 * hourMs)],
    )
    await client.end()
    await opened.database.close()
  })
  after(() => postgres.stop())

  /** An hour with 1,000 requests: three quarters of their time in one route. */
  function frameOf(from: number, cpuSecondsEach: number): Frame {
    const answered = (route: string, module: string, count: number, sum: number) => [
      keyOf({ method: 'GET', route, status: 200, module }),
      { sum, counts: { '0.01..0.025': count } },
    ]
    return {
      ...{ node: 'a:1:x', from, to: from + hourMs, ms: hourMs, ...nothing },
      counters: { process_cpu_user_seconds_total: { '{}': 1_000 * cpuSecondsEach } },
      gauges: {
        process_info: { [keyOf({ role: 'both' })]: { min: 1, max: 1, sum: 1, count: 1 } },
        process_resident_memory_bytes: { '{}': { min: 1e8, max: 2e8, sum: 1.5e8, count: 1 } },
      },
      histograms: {
        http_request_duration_seconds: Object.fromEntries([
          answered('/articles', 'articles', 500, 9),
          answered('/articles/:slug', 'articles', 400, 2),
          answered('/users', 'users', 100, 1),
          answered('/healthz', '', 360, 5),
        ]),
      },
    }
  }

  it('divides the cost among routes and modules, and tells what a deploy has changed', async () => {
    const env = { DATABASE_URL: urlOf(connection) }
    const { code, document, lines } = await cost(env, '1k', '--json')
    assert.equal(code, 0, lines.join('\n'))
    const { routes, modules, deploy, suggestions } = document as {
      routes: { name: string; share: number }[]
      modules: { name: string; share: number }[]
      deploy: { build: string; before: number; after: number; change: number; aMonth: number }
      suggestions: { what: string }[]
    }
    const shares = (some: typeof routes) => some.map(({ name, share }) => [name, Math.round(1_000 * share)])
    assert.deepEqual(shares(routes), [
      ['GET /articles', 750],
      ['GET /articles/:slug', 167],
      ['GET /users', 83],
    ])
    assert.deepEqual(shares(modules), [
      ['articles', 917],
      ['users', 83],
    ])
    assert.equal(deploy.build, 'newer')
    assert.deepEqual(
      [deploy.before, deploy.after].map((ms) => Math.round(1_000 * ms)),
      [2_000, 3_000],
    )
    assert.equal(Math.round(100 * deploy.change), 50)
    // Of 105 dollars for a server (70) and a managed database (35) a third is new.
    assert.equal(Math.round(deploy.aMonth), 35)
    assert.deepEqual(suggestions, [], 'the generic list has no smaller server')
    const fly = await cost(env, '1k', '--list', 'fly', '--server', '2x8', '--json')
    assert.match(JSON.stringify(fly.document), /Take a server of 1 core and 2 GB/)
  })
})
