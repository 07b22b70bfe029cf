import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { pack } from '../../src/observe/record/frame.ts'
import { addFrame } from '../../src/observe/record/table.ts'
import { slicesOf, type World } from '../planner/situations/world.ts'
import { openSystemTables } from '../support/data.ts'
import { ownPostgres, type TestPostgres, urlOf } from '../support/postgres.ts'

let postgres: TestPostgres
let dir: string
before(async () => {
  postgres = await ownPostgres()
  dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
})
after(async () => {
  await postgres.stop()
  await rm(dir, { recursive: true, force: true })
})

async function run(env: Record<string, string>, ...args: string[]) {
  const lines: string[] = []
  const notes: string[] = []
  let document: unknown
  const code = await main(args, { RUNG_CONFIG: 'none', ...env }, dir, {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void notes.push(text),
    json: (value) => {
      document = JSON.parse(JSON.stringify(value))
    },
  })
  return { code, lines, notes, text: lines.join(' ').replaceAll(/\s+/g, ' '), document: document as never }
}

const quiet: World = {
  ...{ rung: '1k', cores: 4, days: 2, peak: () => 100 },
  routes: [{ route: 'GET /articles', module: 'articles', share: 1, appMs: 1, readMs: 0.5, writeMs: 0, cached: 0.5 }],
}

/** A database with the record of a world until now. */
async function databaseOf(world: World): Promise<Record<string, string>> {
  const { database, connection } = await openSystemTables(postgres)
  const hour = 3_600_000
  const until = Math.floor(Date.now() / hour) * hour
  for (const { frames } of slicesOf(world, until)) {
    for (const frame of frames)
      await addFrame(database, { node: frame.node, from: frame.from, to: frame.to, content: pack([frame]) })
  }
  await database.close()
  return { DATABASE_URL: urlOf(connection) }
}

interface Told {
  isDue: boolean
  findings: { number: number; verdict: string; kind: string; what: string; revisitWhen: string }[]
  figures: Record<string, number>
  file: string | null
}

describe('rung advise', () => {
  it('says "not yet" with its reason, writes that as a decision, and rung adr says when it has come true', async () => {
    const env = await databaseOf(quiet)
    const { code, lines, text } = await run(env, 'advise', '--cores', '4')
    assert.equal(code, 0)
    assert.equal(lines[0], 'Not yet: there is nothing to do now.')
    assert.ok(Math.max(...lines.map(({ length }) => length)) <= 80, lines.join('\n'))
    assert.match(text, /Not yet \(a rung\): Stay at rung 1k, as it is\./)
    assert.match(text, /(8|9)\d % of the capacity is free in the busiest hour of the last week/)
    assert.match(text, /again when headroom < 0\.4/)

    await mkdir(path.join(dir, 'docs/adr'), { recursive: true })
    await writeFile(path.join(dir, 'docs/adr/0007-ours.md'), '# 7. Ours\n\n**Revisit when** we feel like it.\n')
    const accepted = await run(env, 'advise', '--cores', '4', '--accept', '1', '--json')
    const { file } = accepted.document as Told
    assert.equal(file, 'docs/adr/0008-stay-at-rung-1k-as-it-is.md')
    const decision = await readFile(path.join(dir, file!), 'utf8')
    for (const part of ['# 8. Stay at rung 1k', '**Context.**', '**Choice.**', '**Alternatives.**', '- `headroom` 0.'])
      assert.ok(decision.includes(part), decision)
    assert.match(decision, /\*\*Revisit when\*\* `headroom < 0\.4`\n$/)
    const again = await run(env, 'advise', '--cores', '4', '--accept', '1')
    assert.equal(again.code, 1)
    assert.match(
      [...again.notes, again.text].join(' ').replaceAll(/\s+/g, ' '),
      /This is decision 8 already, in docs\/adr\/0008-stay-at-rung-1k-as-it-is\.md\./,
    )
    assert.match((await run(env, 'advise', '--cores', '4')).text, /decided docs\/adr\/0008-stay-at-rung-1k/)
    assert.deepEqual((await readdir(path.join(dir, 'docs/adr'))).sort(), [
      '0007-ours.md',
      '0008-stay-at-rung-1k-as-it-is.md',
    ])

    assert.equal(spawnSync('mkfifo', [path.join(dir, 'docs/adr/0009-pipe.md')]).status, 0) // nothing writes into it
    const calm = await run(env, 'adr', '--cores', '4')
    assert.equal(calm.code, 0)
    assert.match(
      calm.text,
      /7\. Ours no condition that can be checked 8\. Stay at rung 1k, as it is when headroom < 0\.4; headroom is 0\.[89]/,
    )
    const busy = await databaseOf({ ...quiet, peak: () => 850 })
    const due = await run(busy, 'adr', '--cores', '4')
    assert.equal(due.code, 2)
    assert.match(due.text, /DUE 8\. Stay at rung 1k/)
    const json = await run(busy, 'adr', '--cores', '4', '--json')
    assert.deepEqual(
      (json.document as { decisions: { number: number; isDue: boolean }[] }).decisions.map((one) => [
        one.number,
        one.isDue,
      ]),
      [
        [7, false],
        [8, true],
      ],
    )
  })

  it('advises a rung where the one thread is full, with what it costs, and the lowest that carries twice the rate', async () => {
    const env = await databaseOf({ ...quiet, peak: () => 850 })
    const { text, document } = await run(env, 'advise', '--cores', '4', '--json')
    const { isDue, findings } = document as Told
    assert.ok(isDue, text)
    assert.deepEqual(
      findings.map(({ number, verdict, kind }) => [number, verdict, kind]),
      [[1, 'now', 'rung']],
    )
    const told = await run(env, 'advise', '--cores', '4', '--team', '4')
    assert.equal(told.lines[0], 'One thing to do now, best first.')
    // The thread is full, and 4 cores have room for more of them behind nginx: the same server.
    assert.match(told.text, /Climb to rung 10k with [23] web processes\./)
    assert.match(
      told.text,
      /no money; 3–8 days of work, at most \d+ % of the 17–25 days that scaling may take a team of 4 in a month/,
    )
    assert.match(told.text, /change rung stop && rung up 10k --web [23]; .* undo rung stop && rung up 1k/)
    const small = await run(env, 'advise', '--cores', '2')
    assert.match(small.text, /Climb to rung 100k.* \$\d+–[\d,]+ a month/)
    const moneyOf = ({ text }: { text: string }) =>
      /Climb to rung 100k.*? cost (\$[\d,]+–[\d,]+) a month/.exec(text)?.[1]
    const larger = await run(env, 'advise', '--cores', '2', '--server', '8x32')
    assert.ok(moneyOf(small))
    assert.notEqual(moneyOf(larger), moneyOf(small))
  })

  it('works without a database, and tells what it could not look at', async () => {
    const { code, lines } = await run({ RUNG_DATA: path.join(dir, 'none') }, 'advise')
    assert.equal(code, 0, lines.join('\n'))
    assert.match(lines.join('\n'), /Too little is recorded/)
    const gone = await run({ DATABASE_URL: 'postgres://app@127.0.0.1:1/none' }, 'advise')
    assert.equal(gone.code, 0)
    assert.match(gone.text, /The record could not be read, so it does not count: /)
    const bad = await run({ RUNG_DATA: path.join(dir, 'none') }, 'advise', '--accept', '9')
    assert.equal(bad.code, 1)
    assert.match(bad.notes.join('\n'), /COMMAND_INVALID/)
    const empty = await run({ RUNG_DATA: path.join(dir, 'none') }, 'adr')
    assert.equal(empty.code, 0)
  })

  it('has what the doctor finds among its findings', async () => {
    const env = await databaseOf(quiet)
    const database = /\/([^/?]+)\?/.exec(env.DATABASE_URL!)![1]!
    const admin = await connectOnce({ ...postgres.admin, database })
    await admin.query('create extension pg_stat_statements; grant pg_read_all_stats to app')
    await admin.end()
    const app = await connectOnce({ ...postgres.admin, user: 'app', database })
    await app.query('create table public.reading (id int primary key, place int not null, value int not null)')
    await app.query('insert into public.reading select n, n % 5000, n from generate_series(1, 60000) n')
    await app.query('analyze public.reading')
    for (let run = 0; run < 10; run += 1) await app.query('select * from public.reading where place = $1', [run])
    await app.query('select pg_stat_force_next_flush()')
    await app.end()
    const { document, text } = await run(env, 'advise', '--cores', '4', '--json')
    const { findings } = document as Told
    assert.deepEqual(
      findings.map(({ verdict, kind }) => [verdict, kind]),
      [
        ['now', 'index'],
        ['not yet', 'rung'],
      ],
      text,
    )
    assert.match(findings[0]!.what, /reading/)
  })
})
