import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { main } from '../../../src/cli/main.ts'
import { askProgram } from '../../../src/engines/process/ask-program.ts'
import { messageOf } from '../../../src/kernel/errors.ts'
import { counted, distributed, gauged } from '../../../src/observe/record/groups.ts'
import { readPrometheus } from '../../../src/observe/record/scraped.ts'
import { requestsOf } from '../../../src/observe/record/summary.ts'
import { freePort } from '../../support/ports.ts'
import { until } from '../../support/process.ts'
import { noPromtool } from '../../support/promtool.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
const days = 12
const stepMs = 10 * minute
/** The end of the last whole hour. */
const end = Math.floor(Date.now() / hour) * hour
const begin = Math.floor((end - days * day) / day) * day

/** What two processes count: 4 requests/s by day, 1 by night, 20 ms each, 5 ms of CPU for each. */
function openMetrics(): string {
  const rateAt = (time: number) => (Math.floor(time / hour) % 24 < 12 ? 4 : 1)
  const texts: Record<string, string[]> = { count: [], bucket: [], sum: [], cpu: [], info: [] }
  for (const [instance, share] of [
    ['a:3000', 0.75],
    ['b:3000', 0.25],
  ] as const) {
    let requests = 0
    for (let time = begin; time <= end; time += stepMs) {
      const at = time / 1_000
      const labels = `instance="${instance}",job="app",method="GET",route="/things",status="200",module="things"`
      for (const [le, part] of [
        ['0.01', 0],
        ['0.025', 1],
        ['+Inf', 1],
      ] as const)
        texts.bucket!.push(`http_request_duration_seconds_bucket{${labels},le="${le}"} ${requests * part} ${at}`)
      texts.count!.push(`http_request_duration_seconds_count{${labels}} ${requests} ${at}`)
      texts.sum!.push(`http_request_duration_seconds_sum{${labels}} ${requests * 0.02} ${at}`)
      texts.cpu!.push(`process_cpu_user_seconds_total{instance="${instance}",job="app"} ${requests * 0.005} ${at}`)
      texts.info!.push(`process_info{instance="${instance}",job="app",role="web"} 1 ${at}`)
      requests += (share * rateAt(time) * stepMs) / 1_000
    }
  }
  const kinds = [
    ['http_request_duration_seconds_bucket', 'gauge', texts.bucket],
    ['http_request_duration_seconds_count', 'gauge', texts.count],
    ['http_request_duration_seconds_sum', 'gauge', texts.sum],
    ['process_cpu_user_seconds', 'counter', texts.cpu],
    ['process_info', 'gauge', texts.info],
  ] as const
  return `${kinds.map(([name, type, lines]) => `# TYPE ${name} ${type}\n${lines!.join('\n')}`).join('\n')}\n# EOF\n`
}

describe('a Prometheus that scrapes the app', { skip: noPromtool }, () => {
  let dir: string
  let url: string
  let stop: () => Promise<void>
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    await writeFile(path.join(dir, 'metrics.txt'), openMetrics())
    await writeFile(path.join(dir, 'prometheus.yaml'), 'scrape_configs: []\n')
    const blocks = ['tsdb', 'create-blocks-from', 'openmetrics', path.join(dir, 'metrics.txt'), path.join(dir, 'data')]
    const { status, stderr } = askProgram('promtool', blocks, { timeoutMs: 120_000 })
    assert.equal(status, 0, stderr)
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    const child = spawn(
      'prometheus',
      [
        `--config.file=${path.join(dir, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${path.join(dir, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--storage.tsdb.retention.time=500d',
      ],
      { stdio: 'ignore' },
    )
    const ended = once(child, 'exit')
    stop = async () => {
      child.kill('SIGTERM')
      await ended
    }
    await until(
      () =>
        fetch(`${url}/-/ready`).then(
          ({ ok }) => ok,
          () => false,
        ),
      'Prometheus is ready',
    )
  })
  after(async () => {
    await stop?.()
    await rm(dir, { recursive: true, force: true })
  })

  it('has the hours of the record: requests of all days, everything of the last week', async () => {
    const slices = await readPrometheus(url, { from: begin, to: end })
    assert.equal(slices[0]!.from, begin)
    assert.equal(slices.at(-1)!.to, end)
    assert.equal(slices.length, (end - begin) / hour)
    // The first sample is at the begin of the first hour, so nothing is extrapolated but its edges.
    for (const { from, frames } of slices.slice(1)) {
      const expected = (Math.floor(from / hour) % 24 < 12 ? 4 : 1) * 3_600
      const off = requestsOf(frames) / expected
      assert.ok(off > 0.9 && off < 1.1, `${new Date(from).toISOString()}: ${off}`)
    }
    const { frames } = slices.at(-2)!
    assert.deepEqual(frames.map(({ node }) => node).sort(), ['a:3000', 'b:3000'])
    const [answers] = distributed(frames, 'http_request_duration_seconds', ['route', 'module'])
    assert.deepEqual(answers!.labels, { module: 'things', route: '/things' })
    assert.deepEqual(Object.keys(answers!.value.counts), ['0.01..0.025'])
    const requests = requestsOf(frames)
    assert.ok(Math.abs(answers!.value.sum / requests - 0.02) < 1e-6)
    const [cpu] = counted(frames, 'process_cpu_user_seconds_total', [])
    assert.ok(Math.abs(cpu!.value / requests - 0.005) < 1e-6)
    assert.deepEqual(gauged(frames, 'process_info', ['role'])[0]!.labels, { role: 'web' })
    assert.deepEqual(gauged(slices[0]!.frames, 'process_info', ['role']), [], 'of old days only requests are read')
  })

  async function plan(prometheus: string) {
    let document: unknown
    const out = {
      line() {},
      note() {},
      json(value: unknown) {
        document = JSON.parse(JSON.stringify(value))
      },
    }
    const env = { RUNG_PROMETHEUS_URL: prometheus, RUNG_CONFIG: 'none', RUNG_DATA: path.join(dir, 'none') }
    assert.equal(await main(['plan', '10k', '--json'], env, dir, out), 0)
    return document as { users: { rate?: { likely: number; from: string } }; problem?: string; isCalibrated: boolean }
  }

  it('is what the plan is made of, without a record', async () => {
    const { users, isCalibrated, problem } = await plan(url)
    assert.equal(problem, undefined)
    assert.ok(isCalibrated)
    assert.equal(users.rate!.from, 'measured')
    assert.ok(users.rate!.likely > 3.6 && users.rate!.likely < 4.4, String(users.rate!.likely))
  })

  it('that is away, or is none, is told, and the plan goes on without', async () => {
    assert.match((await plan('http://127.0.0.1:1')).problem!, /The Prometheus at RUNG_PROMETHEUS_URL cannot be read: /)
    assert.match((await plan(`${url}/none`)).problem!, /does not answer with JSON/)
  })
})

describe('what answers instead of a Prometheus', () => {
  async function refused(answer: RequestListener): Promise<string> {
    const server = createServer(answer).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    try {
      await readPrometheus(`http://127.0.0.1:${port}`, { from: begin, to: end })
      return 'read'
    } catch (error) {
      return messageOf(error)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  }

  it('is not followed to another address', async () => {
    let asked = 0
    const text = await refused((_, response) => {
      asked += 1
      response.writeHead(302, { location: '/elsewhere' }).end()
    })
    assert.match(
      text,
      /^The Prometheus at RUNG_PROMETHEUS_URL cannot be read: It redirects to another address \(302\)\./i,
    )
    assert.equal(asked, 1)
  })

  it('is read up to 64 MiB', async () => {
    const chunk = Buffer.alloc(1024 ** 2, ' ')
    let sent = 0
    const text = await refused(async (_, response) => {
      for (; !response.destroyed && sent < 1_000; sent += 1)
        if (!response.write(chunk)) await Promise.race([once(response, 'drain'), once(response, 'close')])
      response.end()
    })
    assert.match(text, /an answer has more than 64 MiB/i)
    assert.ok(sent < 200, `${sent} MiB were sent`)
  })
})
