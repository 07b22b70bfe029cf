import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineModule, type HttpOptions } from 'rung'
import { metrics } from '../../../src/observe/metrics.ts'
import { isShed, type Priority } from '../../../src/primitives/http/shedding.ts'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

describe('what is refused', () => {
  const limits = { delayMsMax: 100, inFlightMax: 10 }
  const table: [delayMs: number, inFlight: number, refused: Priority[]][] = [
    [0, 0, []],
    [49, 4, []],
    [50, 0, ['sheddable']],
    [0, 5, ['sheddable']],
    [99, 9, ['sheddable']],
    [100, 0, ['sheddable', 'normal']],
    [0, 10, ['sheddable', 'normal']],
    [199, 19, ['sheddable', 'normal']],
    [200, 0, ['sheddable', 'normal', 'critical']],
    [0, 20, ['sheddable', 'normal', 'critical']],
  ]
  for (const [delayMs, inFlight, refused] of table) {
    it(`${delayMs} ms late, ${inFlight} in flight: ${refused.join(', ') || 'nothing'}`, () => {
      const all = (['sheddable', 'normal', 'critical'] as const).filter((one) =>
        isShed(one, { delayMs, inFlight }, limits),
      )
      assert.deepEqual(all, refused)
    })
  }
})

describe('under load', () => {
  let postgres: TestPostgres
  let running: Running
  const gates: (() => void)[] = []
  before(async () => {
    postgres = await testPostgres()
    running = await start({ shedding: { inFlightMax: 4, delayMax: '5s' } })
  })
  after(async () => {
    await running?.stop()
    await postgres?.stop()
  })

  const config = (priority: Priority) => ({ config: { priority } })
  const module = defineModule({
    name: 'm',
    owner: 'tests',
    routes(http) {
      http.get('/wait', () => new Promise((resolve) => gates.push(() => resolve({}))))
      http.get('/', async () => ({}))
      http.post('/', async ({ body }) => body)
      http.get('/critical', config('critical'), async () => ({}))
      http.get('/sheddable', config('sheddable'), async () => ({}))
      http.get('/block/:ms', config('critical'), async (request) => {
        const ends = performance.now() + Number((request.params as { ms: string }).ms)
        while (performance.now() < ends);
        return {}
      })
    },
  })
  const start = (http: HttpOptions) =>
    bootForTest(defineApp({ name: 'a', modules: [module], http }), postgres, { shedding: 'on' }, [
      (fastify, { data, primitives }) => void metrics(fastify, data, primitives),
    ])
  const ask = (route: string, of = running) => fetch(of.url + route)
  const status = async (route: string, of = running) => (await ask(route, of)).status

  async function holding<T>(n: number, body: () => Promise<T>): Promise<T> {
    const held = Array.from({ length: n }, () => ask('/wait'))
    await until(() => gates.length === n, 'they wait')
    try {
      return await body()
    } finally {
      for (const open of gates.splice(0)) open()
      for (const one of held) assert.equal((await one).status, 200)
    }
  }

  it('the least important goes first, and all comes back', async () => {
    const seen = async () => [await status('/sheddable'), await status('/'), await status('/critical')]
    assert.deepEqual(await holding(1, seen), [200, 200, 200])
    assert.deepEqual(await holding(2, seen), [503, 200, 200])
    assert.deepEqual(await holding(4, seen), [503, 503, 200])
    assert.deepEqual(await seen(), [200, 200, 200])
  })

  it('a refusal says when to come again, and the process can be asked how it is', async () => {
    await holding(4, async () => {
      const refused = await ask('/')
      const problem = (await refused.json()) as { code: string }
      assert.equal(problem.code, 'HTTP_OVERLOADED')
      assert.match(refused.headers.get('retry-after') ?? '', /^[123]$/)
      for (const route of ['/healthz', '/readyz']) assert.equal(await status(route), 200)
      const figures = await (await ask('/metrics')).text()
      assert.match(figures, /http_shed_total\{priority="normal"\} \d/)
      assert.match(figures, /http_request_duration_seconds_count\{[^}]*status="503"[^}]*refused="yes"\} \d/)
    })
  })

  it('bodies that are slow in coming keep nobody else from being answered', async () => {
    const other = await start({ shedding: { inFlightMax: 20 }, trustProxy: ['127.0.0.1'] })
    const post = (from: string) =>
      fetch(other.url, {
        method: 'POST',
        body: '{}',
        headers: { 'content-type': 'application/json', 'x-forwarded-for': from },
      })
    const slow: { socket: Socket; answer: Promise<string> }[] = []
    try {
      for (let n = 0; n < 40; n += 1) {
        const socket = connect(Number(new URL(other.url).port), '127.0.0.1')
        const said = once(socket, 'data').then(String)
        socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Forwarded-For: 10.0.0.1\r\n')
        socket.write('Content-Length: 2\r\n\r\n{')
        slow.push({ socket, answer: said })
      }
      const refused: string[] = []
      for (const { answer } of slow) void answer.then((text) => refused.push(text))
      await until(() => refused.length === 38, 'all but two are refused')
      for (const text of refused)
        assert.match(text, /^HTTP\/1.1 429 [\s\S]*Retry-After: 1[\s\S]*HTTP_TOO_MANY_REQUESTS/i)
      assert.deepEqual([await status('/sheddable', other), (await post('10.0.0.2')).status], [200, 200])
      assert.equal((await post('10.0.0.1')).status, 429)
      for (const { socket } of slow) socket.write('}')
      await until(() => refused.length === 40, 'those that were held are answered')
      assert.match(refused.at(-1)!, /^HTTP\/1.1 200 /)
      assert.equal((await post('10.0.0.1')).status, 200)
    } finally {
      for (const { socket } of slow) socket.destroy()
      await other.stop()
    }
  })

  it('however many bodies hardly arrive, from wherever: one that arrives is taken, and none that arrives steadily is refused for it', async () => {
    const other = await start({ shedding: { inFlightMax: 20 }, trustProxy: ['127.0.0.1'] })
    const open: Socket[] = []
    const begin = (from: string, length: number) => {
      const socket = connect(Number(new URL(other.url).port), '127.0.0.1')
      open.push(socket)
      socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Forwarded-For: ${from}\r\n`)
      socket.write(`Content-Length: ${length}\r\n\r\n{`)
      return { socket, answer: once(socket, 'data').then(String) }
    }
    try {
      const steady = begin('10.1.0.1', 1_000_000)
      const isSteady = setInterval(() => steady.socket.writable && steady.socket.write(' '.repeat(1_000)), 5)
      let isOver = false
      void steady.answer.then(() => {
        isOver = true
      })
      const slow = Array.from({ length: 19 }, (_, n) => begin(`10.0.0.${n}`, 2))
      const post = (from: string) =>
        fetch(other.url, {
          method: 'POST',
          body: '{}',
          headers: { 'content-type': 'application/json', 'x-forwarded-for': from },
        })
      // That they are slow shows after a moment; until then one that comes is refused.
      await until(async () => {
        const { status } = await post('10.3.0.1')
        assert.ok(status === 200 || status === 503, String(status))
        return status === 200
      }, 'one that arrives is taken')
      assert.match(await slow[0]!.answer, /^HTTP\/1.1 503 [\s\S]*HTTP_OVERLOADED/)
      for (let n = 1; n < 10; n += 1) assert.equal((await post(`10.3.1.${n}`)).status, 200)
      assert.equal(isOver, false, 'the steady one goes on')
      clearInterval(isSteady)
    } finally {
      for (const socket of open) socket.destroy()
      await other.stop()
    }
  })

  it('a late event loop refuses what came meanwhile', async () => {
    const other = await start({ shedding: { delayMax: 100 } })
    try {
      assert.equal(await status('/', other), 200)
      // On lines of their own, so that all of them are there when the loop comes round.
      const asked = [ask('/block/400', other), ...Array.from({ length: 6 }, () => ask('/', other))]
      const seen = (await Promise.all(asked)).map((one) => one.status)
      assert.equal(seen[0], 200)
      assert.ok(seen.includes(503), `${seen}`)
      await until(async () => (await status('/', other)) === 200, 'it is over')
    } finally {
      await other.stop()
    }
  })
})
