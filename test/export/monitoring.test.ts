import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { askProgram } from '../../src/engines/process/ask-program.ts'
import { monitoringFiles, panels } from '../../src/export/monitoring.ts'
import { observe } from '../../src/observe/observe.ts'
import { recordedOfEach } from '../../src/observe/record/snapshot.ts'
import { bootForTest } from '../support/app.ts'
import shop from '../support/apps/shop/app.ts'
import { exportedOf, rungNames } from '../support/exported.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { noPromtool } from '../support/promtool.ts'

const queries = panels.flatMap((panel) => panel.queries.map(([query]) => query))

describe('a dashboard', () => {
  let postgres: TestPostgres
  before(async () => {
    postgres = await testPostgres()
  })
  after(() => postgres.stop())

  it('asks for what /metrics has', async () => {
    // With a broker, so that events have figures; that it cannot be reached does not keep an app from starting.
    const app = await bootForTest(shop, postgres, {}, [observe()], { RUNG_NATS_URL: 'nats://127.0.0.1:1' })
    await fetch(`${app.url}/items/999`)
    const text = await (await fetch(`${app.url}/metrics`)).text()
    await app.stop()
    // An app without replicas has no figures of them.
    const names = new Set<string>([
      ...recordedOfEach,
      ...[...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!),
    ])
    for (const query of queries) {
      const [metric] = /\b(http|db|nodejs|process|cache|jobs?|events|outgoing)(_\w+)?\b/.exec(query)!
      assert.ok(names.has(metric.replace(/_(bucket|count)$/, '')), query)
    }
    const [labels] = /^http_request_duration_seconds_count\{.*route="\/items.*\}/m.exec(text)!
    for (const label of ['method', 'route', 'status', 'module']) assert.ok(labels.includes(`${label}="`), labels)
  })
})

function accepted(...args: string[]): void {
  const { status, stdout, stderr } = askProgram('promtool', args)
  assert.equal(status, 0, stdout + stderr)
}

it('Prometheus reads the queries and the files', { skip: noPromtool }, async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  try {
    const rules = queries.map((query, n) => ({
      ...{ record: `query_${n}`, expr: query.replaceAll('$__rate_interval', '5m') },
    }))
    await writeFile(path.join(dir, 'queries.yaml'), JSON.stringify({ groups: [{ name: 'all', rules }] }))
    accepted('check', 'rules', path.join(dir, 'queries.yaml'))
    for (const rung of rungNames) {
      for (const target of ['compose', 'kubernetes'] as const) {
        const file = path.join(dir, `${target}-${rung}.yaml`)
        const text = monitoringFiles(exportedOf(rung), target)['prometheus.yaml']!
        // Debian builds Prometheus without Kubernetes: this checks the rest.
        const here = text.replace('kubernetes_sd_configs: [{ role: pod }]', 'static_configs: [{ targets: [a:1] }]')
        await writeFile(file, here)
        accepted('check', 'config', '--syntax-only', file)
      }
    }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

it('the dashboard is what Grafana imports', () => {
  const { panels: all, templating } = JSON.parse(monitoringFiles(exportedOf('100k'), 'compose')['grafana.json']!)
  assert.equal(all.length, panels.length)
  for (const { id, gridPos, targets, datasource } of all) {
    assert.ok(id > 0 && gridPos.w === 12 && targets.length > 0)
    assert.equal(datasource.uid, `\${${templating.list[0].name}}`)
  }
})
