import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { main } from '../../../src/cli/main.ts'
import { connectOnce } from '../../../src/engines/postgres/client.ts'
import { beganAt, deliveryFiguresOf, type Incident } from '../../../src/observe/alerts/incidents.ts'
import { createWatch } from '../../../src/observe/alerts/keep.ts'
import { rulesOf } from '../../../src/observe/alerts/owners.ts'
import { rules } from '../../../src/observe/alerts/rules.ts'
import { type Frame, keyOf, nothing, pack } from '../../../src/observe/record/frame.ts'
import { addFrame } from '../../../src/observe/record/table.ts'
import { endDeploy, recordDeploy, recordStart } from '../../../src/runtime/deploys.ts'
import { openAlertLease, openQueues } from '../../../src/runtime/wire.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'
import { openWebhook } from '../../support/webhook.ts'

const minuteMs = 60_000
const dayMs = 86_400_000

let postgres: TestPostgres
let dir: string
before(async () => {
  postgres = await testPostgres()
  dir = await mkdtemp(path.join(tmpdir(), 'rung-alerts-'))
})
after(async () => {
  await rm(dir, { recursive: true, force: true })
  await postgres.stop()
})

async function rung(env: Record<string, string>, ...args: string[]) {
  const lines: string[] = []
  let json: unknown
  const code = await main(args, env, dir, {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void lines.push(text),
    json: (value) => {
      json = value
    },
  })
  return { code, lines, text: lines.join('\n'), json: json as never }
}

/** A database in which the pool is used up since some minutes, as seen by the processes that run. */
async function withAlert() {
  const { database, connection } = await openSystemTables(postgres)
  const now = Math.floor(Date.now() / minuteMs) * minuteMs
  const gauge = (value: number) => ({ min: value, max: value, sum: value, count: 1 })
  const key = (state: string) => keyOf({ database: 'main', target: 'read', state })
  const gauges = { db_pool_connections: { [key('max')]: gauge(10), [key('busy')]: gauge(9) } }
  const { queue } = openQueues(database)
  let at = now - 8 * minuteMs
  const watch = createWatch({
    ...{ node: 'web', app: 'shop', rules: rulesOf({ name: 'shop', modules: [], alerts: {} }), database, queue },
    told: { webhook: undefined, mail: [] },
    lease: openAlertLease(database),
    clock: { now: () => at + 15_000, ticks: () => at },
    looked: () => {},
    trouble: assert.ifError,
  })
  for (; at <= now; at += minuteMs) {
    const frame: Frame = { node: 'web:1:a', from: at - minuteMs, to: at, ms: minuteMs, ...nothing, gauges }
    await addFrame(database, { node: frame.node, from: frame.from, to: at, content: pack([frame]) })
    await watch.look()
  }
  await recordStart(connection, { build: 'one', rung: '1k', startedBy: 'rung start' })
  await recordDeploy(connection, { build: 'two', rung: '1k', startedBy: 'rung deploy' }, 'one')
  const climb = { build: 'one', rung: '10k', fromRung: '1k', startedBy: 'rung climb' } as const
  const id = await recordDeploy(connection, climb, 'one')
  await endDeploy(connection, id, { outcome: 'rolled back', reason: 'It was slower.', migrations: [] })
  return { env: { DATABASE_URL: urlOf(connection), NODE_ENV: 'test' }, connection, close: () => database.close() }
}

const inColumns = (lines: readonly string[]) =>
  assert.deepEqual(
    lines.filter((line) => line.length > 80),
    [],
  )

describe('rung alerts', () => {
  it('shows what fires, rules with their values, and who has seen it', async () => {
    const { env, close } = await withAlert()
    const shown = await rung(env, 'alerts')
    assert.equal(shown.code, 0, shown.text)
    assert.match(
      shown.text,
      /^app: evaluated until \S+ \S+ UTC\n\nalert +state +severity +value +since +owner\npool-used +firing +page +90.0 % /,
    )
    assert.match(shown.text, /\n {4}main read\n {4}incident 1\n {4}rung alerts runbook pool-used/)
    inColumns(shown.lines)
    const all = await rung(env, 'alerts', 'rules')
    assert.match(all.text, /pool-used +page +90.0 % +> 80.0 % +70.0 % +2m/)
    assert.match(all.text, /certificate-ends +page +< 7.0 days +8.0 days +5m/)
    inColumns(all.lines)
    assert.equal((await rung(env, 'alerts', 'ack', 'pool-used', '--by', 'ann')).text, 'pool-used acknowledged by ann')
    const { json } = await rung(env, 'alerts', '--json')
    const [{ rule, acknowledgedBy, labels, owner }] = (json as { alerts: [Record<string, unknown>] }).alerts
    assert.deepEqual(
      [rule, acknowledgedBy, labels, owner],
      ['pool-used', 'ann', { database: 'main', target: 'read' }, 'app'],
    )
    for (const args of [
      ['ack', 'disk-low'],
      ['ack', 'nothing'],
      ['ack'],
      ['runbook', '../x'],
      ['list', 'x'],
      ['more'],
      ['export'],
    ])
      assert.equal((await rung(env, 'alerts', ...args)).code, 1, args.join(' '))
    await close()
  })

  it('says that nothing was evaluated yet', async () => {
    const connection = await postgres.createDatabase()
    const shown = await rung({ DATABASE_URL: urlOf(connection), NODE_ENV: 'test' }, 'alerts')
    assert.match(shown.text, /^Nothing was evaluated here yet/)
    const { text } = await rung({ DATABASE_URL: urlOf(connection), NODE_ENV: 'test' }, 'incidents')
    assert.match(text, /no record of incidents yet/)
  })

  it('has a runbook for each rule, which says what to look at and when it ends', async () => {
    for (const { name } of rules) {
      const { code, text, lines } = await rung({}, 'alerts', 'runbook', name)
      inColumns(lines)
      assert.equal(code, 0, text)
      for (const part of [`# ${name}`, '## What it means', '## Look at', '## Do', '## It ends'])
        assert.ok(text.includes(part), `${name}: ${part}`)
      assert.match(text, /rung [a-z]+/)
    }
  })

  it('writes rules and routes, and leaves what is yours', async () => {
    const first = await rung({}, 'alerts', 'export', '--out', 'prometheus')
    assert.equal(first.text, 'wrote  prometheus/rung.rules.yaml\nwrote  prometheus/alertmanager.yaml')
    assert.match(await readFile(path.join(dir, 'prometheus/rung.rules.yaml'), 'utf8'), /alert: pool-used/)
  })

  it('sends a test, and never shows the URL', async () => {
    const webhook = await openWebhook()
    const env = { NODE_ENV: 'production', RUNG_ALERT_WEBHOOK: webhook.url }
    const sent = await rung(env, 'alerts', 'test')
    assert.equal(sent.text, 'webhook  accepted')
    assert.equal((await webhook.until(1)).length, 1)
    webhook.answers(() => 404)
    const refused = await rung(env, 'alerts', 'test')
    assert.deepEqual([refused.code, /it answered 404/.test(refused.text)], [1, true])
    webhook.close()
    const away = await rung(env, 'alerts', 'test')
    assert.match(away.text, /ECONNREFUSED/)
    for (const { text } of [sent, refused, away, await rung(env, 'settings')]) assert.doesNotMatch(text, /the-secret/)
    const none = await rung({ NODE_ENV: 'production' }, 'alerts', 'test')
    assert.match(none.text, /told nowhere/)
    const mail = await rung({ NODE_ENV: 'production', RUNG_ALERT_MAIL: 'ops@example.org' }, 'alerts', 'test')
    assert.deepEqual([mail.code, mail.text.startsWith('mail     There is no RUNG_SMTP_URL')], [1, true])
  })
})

describe('rung incidents', () => {
  it('has the timeline of one: alerts, deploys, starts of processes, what people did', async () => {
    const { env, connection, close } = await withAlert()
    assert.equal((await rung(env, 'incidents', 'ack', '1', '--by', 'ann')).text, 'Incident 1 is acknowledged.')
    assert.equal((await rung(env, 'incidents', 'ack', '1', '--by', 'bob')).text, 'Incident 1 was acknowledged before.')
    await rung(env, 'incidents', 'note', '1', 'more | connections', '--by', 'ann')
    const shown = await rung(env, 'incidents', 'show', '1')
    const told = shown.lines.slice(3).map((line) => line.slice(21))
    assert.deepEqual(told, [
      'process web:1:a starts',
      'pool-used (main read) fires: 90.0 %',
      'deploy of one begins',
      'deploy of one: done',
      'deploy of two begins',
      'climb from 1k to 10k begins',
      'climb from 1k to 10k: rolled back',
      'acknowledged by ann',
      'more | connections (ann)',
    ])
    inColumns(shown.lines)
    const listed = await rung(env, 'incidents')
    assert.match(listed.text, /1 +\S+ \S+ +acknowledged +\S.* +pool-used \(main read\): A p/)
    inColumns(listed.lines)

    const opened = await rung(env, 'incidents', 'open', 'checkout is slow', '--by', 'ann')
    assert.equal(opened.text, 'Incident 2 is open. Close it with: rung incidents close 2')
    assert.equal((await rung(env, 'incidents', 'close', '2')).text, 'Incident 2 is closed.')
    assert.equal((await rung(env, 'incidents', 'close', '2')).code, 1)
    const early = await rung(env, 'incidents', 'postmortem', '2')
    assert.deepEqual([early.code, /not recorded yet\. Repeat/.test(early.text)], [1, true], early.text)
    const wrote = await rung(env, 'incidents', 'postmortem', '1')
    const file = /^wrote {2}(docs\/incidents\/\d{4}-\d\d-\d\d-1\.md)$/.exec(wrote.text)![1]!
    const text = await readFile(path.join(dir, file), 'utf8')
    assert.match(text, /^# Incident 1: pool-used \\\(main read\\\): A process uses most of its database connections\n/)
    assert.match(text, /- Acknowledged: .* by ann, after /)
    assert.match(text, /\| more \\\| connections \\\(ann\\\) \|\n/)
    assert.match(
      text,
      /\n\| before, \d\d:\d\d to \d\d:\d\d \| not recorded \| \| \|\n/,
      'the record begins with the condition',
    )
    assert.match(text, /\n\| meanwhile, \d\d:\d\d to \d\d:\d\d[^|]* \| 0 \| 0 \|/)
    assert.match(text, /## Why it happened/)
    const again = await rung(env, 'incidents', 'postmortem', '1')
    assert.deepEqual([again.code, /left as it is|left as it was/.test(again.text)], [1, true])
    assert.equal(await readFile(path.join(dir, file), 'utf8'), text)

    const client = await connectOnce(connection)
    await client.query(
      `update rung.deploy set started_at = now() - interval '14 days', ended_at = now() - interval '14 days' where build = 'one'`,
    )
    await client.query(`update rung.deploy set outcome = 'rolled back', ended_at = now() where build = 'two'`)
    await client.end()
    const figures = await rung(env, 'incidents', 'figures')
    assert.match(
      figures.text,
      /^in 14.0 days\n\ndeploys +1 +0.5 a week\nof them failed +100.0 %\nincidents +2 +4.3 a month\ntime to restore/,
    )
    for (const args of [
      ['show'],
      ['show', '9'],
      ['show', 'x'],
      ['open'],
      ['open', ''],
      ['note', '1'],
      ['nothing'],
      ['list', '--since', 'x'],
    ])
      assert.equal((await rung(env, 'incidents', ...args)).code, 1, args.join(' '))
    await close()
  })

  it('looks for what users saw since the condition of the alert began', () => {
    const openedAt = Date.UTC(2026, 10, 30, 12)
    const began = (title: string, openedBy: 'alert' | 'hand' = 'alert') =>
      (openedAt - beganAt({ title, openedBy, openedAt })) / minuteMs
    assert.equal(began('requests-shed: Requests are refused'), 2 + 5)
    assert.equal(began('pool-used (main read): A process uses most'), 2 + 5)
    assert.equal(began('errors-fast (shop): Requests fail'), 2 + 60)
    assert.equal(began('errors-fast by hand', 'hand'), 0)
    assert.equal(began('of-another-build: Nothing is known of it'), 0)
  })

  it('has figures that tell what is not known yet', () => {
    const now = Date.UTC(2026, 10, 30)
    const window = { from: now - 28 * dayMs, to: now }
    const none = {
      days: 0,
      deploys: 0,
      deploysPerWeek: null,
      failedShare: null,
      incidents: 0,
      incidentsPerMonth: null,
      restoreMs: null,
    }
    assert.deepEqual(deliveryFiguresOf([], [], window), none)
    const incident = (daysAgo: number, hours: number | null, openedBy: 'alert' | 'hand' = 'alert'): Incident => {
      const openedAt = now - daysAgo * dayMs
      const closedAt = hours === null ? null : openedAt + hours * 3_600_000
      return { ...{ id: 1, title: '', openedBy, openedAt, closedAt }, acknowledgedAt: null, acknowledgedBy: null }
    }
    const deploy = (daysAgo: number, outcome = 'done') => ({
      endedAt: now - daysAgo * dayMs,
      outcome,
      previous: 'before',
    })
    const deploys = [deploy(40), deploy(20), deploy(10, 'rolled back'), deploy(9, 'refused'), deploy(5.01), deploy(2)]
    const incidents = [
      incident(20.5, 1),
      incident(5, 3),
      incident(3, 8),
      incident(2 - 0.01, 1, 'hand'),
      incident(1, null),
    ]
    const found = deliveryFiguresOf(deploys, incidents, window)
    assert.deepEqual(found, {
      ...{ days: 28, deploys: 4, deploysPerWeek: 1, failedShare: 0.5 },
      ...{ incidents: 5, incidentsPerMonth: (5 / 28) * 30, restoreMs: 2 * 3_600_000 },
    })
    assert.equal(deliveryFiguresOf([deploy(2)], [], window).deploysPerWeek, null)
  })

  it('charges an incident to the last deploy before it, and takes no first start for a deploy', () => {
    const now = Date.UTC(2026, 10, 30)
    const window = { from: now - 28 * dayMs, to: now }
    const ago = (minutes: number) => now - minutes * minuteMs
    const incident: Incident = {
      ...{ id: 1, title: '', openedBy: 'alert', openedAt: ago(10), closedAt: null },
      ...{ acknowledgedAt: null, acknowledgedBy: null },
    }
    const deploy = (minutes: number, previous: string | null) => ({ endedAt: ago(minutes), outcome: 'done', previous })
    // The newest first, as they are read.
    const found = deliveryFiguresOf(
      [deploy(5, 'c'), deploy(20, 'b'), deploy(30, 'a'), deploy(40, null)],
      [incident],
      window,
    )
    assert.deepEqual([found.deploys, found.failedShare], [3, 1 / 3])
    assert.equal(deliveryFiguresOf([deploy(40, null)], [incident], window).failedShare, null)
  })
})
