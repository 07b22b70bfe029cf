import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { exportLogs } from '../../src/observe/export-logs.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import { until, withScratch } from '../support/process.ts'

interface Line {
  timeUnixNano: string
  body: { stringValue: string }
  severityText: string
  traceId?: string
  attributes: { key: string; value: { stringValue?: string } }[]
}
interface Sent {
  resourceLogs: {
    resource: { attributes: Line['attributes'] }
    scopeLogs: { logRecords: Line[] }[]
  }[]
}

/** @returns its address */
async function collector(t: TestContext, onRequest: RequestListener): Promise<string> {
  const server = createServer(onRequest).listen(0, '127.0.0.1')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/logs`
}

test('lines of the log are sent to a collector too, within their trace', async (t) => {
  const sent: Sent[] = []
  const endpoint = await collector(t, async (request, response) => {
    sent.push((await json(request)) as Sent)
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  const lines = () => sent.flatMap(({ resourceLogs }) => resourceLogs.flatMap(({ scopeLogs }) => scopeLogs))
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  await withScratch(async (scratch) => {
    const env = { OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: endpoint, LOG_LEVEL: 'info', RUNG_LOG_SAMPLE: '1' }
    const started = await scratch.start({ env })
    const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, authorization: 'Token not-for-logs' }
    assert.equal((await fetch(`${started.url}/entries/none`, { headers })).status, 404)
    assert.equal((await started.stop()).code, 0)
    const records = lines().flatMap(({ logRecords }) => logRecords)
    const request = records.find((line) => line.traceId === traceId)!
    const route = request.attributes.find(({ key }) => key === 'route')
    assert.deepEqual([request.severityText, route?.value.stringValue], ['info', '/entries/:id'])
    assert.ok(!JSON.stringify(sent).includes('not-for-logs'))
    const { attributes } = sent[0]!.resourceLogs[0]!.resource
    assert.deepEqual(attributes.find(({ key }) => key === 'service.name')?.value, { stringValue: 'ledger' })
    const printed = started.stdout() + started.stderr()
    assert.ok(printed.includes(traceId), 'standard output has it as well')
  })
})

test('a field that is named like one of the log spoils no other line', async (t) => {
  const sent: Sent[] = []
  const endpoint = await collector(t, async (request, response) => {
    sent.push((await json(request)) as Sent)
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  process.env.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT = endpoint // the exporter reads it from the process itself
  const logs = await exportLogs(readBindings({ OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: endpoint }, '/').telemetry, 'shop')
  delete process.env.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT
  const line = (fields: object) =>
    logs!.write(
      JSON.stringify({ level: 'info', time: '2026-11-30T10:00:00.000Z' }).replace(
        '}',
        `,${JSON.stringify(fields).slice(1)}`,
      ),
    )
  line({ msg: 'before' })
  line({ time: '12 ms', msg: 'own time' })
  line({ time: { a: 1 }, level: 7, msg: 'x'.repeat(100_000) })
  await logs!.end()
  const records = sent.flatMap(({ resourceLogs }) =>
    resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords)),
  )
  assert.deepEqual(
    records.map(({ body }) => body.stringValue.slice(0, 8)),
    ['before', 'own time', 'xxxxxxxx'],
  )
  for (const { timeUnixNano } of records) assert.equal(timeUnixNano, `${Date.UTC(2026, 10, 30, 10)}000000`)
  assert.equal(records[2]!.body.stringValue.length, 16_384)
})

test('a collector that is away or hangs holds up nothing', (t) =>
  withScratch(async (scratch) => {
    for (const endpoint of [await collector(t, () => {}), 'http://127.0.0.1:1/v1/logs']) {
      const started = await scratch.start({
        env: { OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: endpoint, LOG_LEVEL: 'info', RUNG_LOG_SAMPLE: '1' },
      })
      await until(async () => (await fetch(`${started.url}/entries`)).ok, 'it answers')
      assert.equal((await started.stop()).code, 0)
    }
  }))
