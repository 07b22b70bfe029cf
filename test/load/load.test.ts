import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { machineTicks, sleep } from '../../src/kernel/clock.ts'
import { defineScenario, runLoad, runLoadInThreads, type Scenario, type Second } from '../../src/load.ts'
import { freePort } from '../support/ports.ts'

async function withServer(listener: RequestListener, body: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/** Figures are not asserted here, so it does not matter how busy the machine is. */
const patient = { lateMsMax: 60_000 }
const once1: Pick<Scenario, 'closed'> = { closed: { visitors: 1, journeys: 1 } }

const isNear = (value: number, truth: number) => Math.abs(value - truth) <= 0.05 * truth

it('p99 of a server that stalls 1 s in 5 is that of people who do not wait for each other', async () => {
  const worker = new Worker(new URL('../support/stalling-server.ts', import.meta.url))
  try {
    const [{ port }] = await once(worker, 'message')
    // On a busy machine both are kept waiting by others as well.
    let [p99, truth] = [0, 1]
    for (let attempt = 0; attempt < 5 && !isNear(p99, truth); attempt += 1) {
      const [rate, seconds] = [400, 5]
      let startedAt = 0
      const load = runLoad({
        url: `http://127.0.0.1:${port}`,
        phases: [{ seconds, rate }],
        arrivals: 'even',
        lateMsMax: 500,
        journeys: [
          {
            name: 'one',
            run(visitor) {
              if (visitor.number === 0) startedAt = machineTicks() - 1_000 / rate
              return visitor.request('GET', '/')
            },
          },
        ],
      })
      await sleep(2_000)
      worker.postMessage(1_000)
      const [{ beganAt, endedAt }] = await once(worker, 'message')
      const { all, journeys } = await load
      assert.equal(journeys, rate * seconds)
      assert.deepEqual(all.failures, {})
      // Whoever comes during the stall waits until its end, all others do not wait.
      truth = Array.from({ length: rate * seconds }, (_, n) => startedAt + ((n + 1) * 1_000) / rate)
        .map((at) => (at >= beganAt && at < endedAt ? endedAt - at : 0))
        .sort((a, b) => a - b)[Math.ceil(0.99 * rate * seconds) - 1]!
      p99 = all.latency.at(0.99)
    }
    assert.ok(isNear(p99, truth), `p99 is ${p99} ms, and in truth ${truth} ms`)
  } finally {
    await worker.terminate()
  }
})

it('journeys are chosen by weight, keep their cookies, and are counted by route', () =>
  withServer(
    (request, response) => {
      if (request.url === '/in') response.setHeader('set-cookie', ['who=me; Path=/', 'old=x; Max-Age=0'])
      if (request.url === '/me') response.statusCode = request.headers.cookie === 'who=me' ? 200 : 401
      response.end()
    },
    async (url) => {
      const { routes, all, journeys } = await runLoad({
        url,
        ...patient,
        closed: { visitors: 5, journeys: 400 },
        journeys: [
          {
            name: 'member',
            weight: 3,
            async run(visitor) {
              await visitor.request('POST', '/in', { body: { name: 'me' } })
              await visitor.request('GET', '/me')
            },
          },
          { name: 'guest', run: (visitor) => visitor.request('GET', '/me', { route: 'GET /me as guest' }) },
        ],
      })
      const [members, guests] = ['POST /in', 'GET /me as guest'].map((route) => routes.get(route)!.latency.count)
      assert.equal(journeys, 400)
      assert.equal(members! + guests!, 400)
      assert.ok(guests! > 60 && guests! < 140, `${guests} guests`)
      assert.deepEqual(routes.get('GET /me')!.failures, {})
      assert.deepEqual(all.failures, { 401: guests })
      assert.equal(all.latency.count, 2 * members! + guests!)
    },
  ))

it('answers in any form are read, and each kind of failure is told apart', async () => {
  const bodies: string[] = []
  const journey = (path: string) => ({
    name: path,
    async run(visitor: Parameters<Scenario['journeys'][0]['run']>[0]) {
      const answer = await visitor.request('GET', path)
      bodies.push(answer.body.toString())
      visitor.check(answer.status === 200, 'it is there')
    },
  })
  const failuresOf = async (url: string, path: string) =>
    (await runLoad({ url, ...patient, ...once1, timeoutMs: 300, journeys: [journey(path)] })).all.failures
  await withServer(
    (request, response) => {
      if (request.url === '/chunks') {
        response.write('one ')
        setImmediate(() => response.end('two'))
      } else if (request.url === '/empty') response.writeHead(204).end()
      else if (request.url === '/never') response.write('half')
      else if (request.url === '/breaks') request.socket.destroy()
      else response.writeHead(503).end('busy')
    },
    async (url) => {
      assert.deepEqual(await failuresOf(url, '/chunks'), {})
      assert.deepEqual(bodies, ['one two'])
      assert.deepEqual(await failuresOf(url, '/empty'), { 'check: it is there': 1 })
      assert.deepEqual(await failuresOf(url, '/busy'), { 503: 1, 'check: it is there': 1 })
      assert.deepEqual(await failuresOf(url, '/never'), { timeout: 1 })
      assert.deepEqual(await failuresOf(url, '/breaks'), { broken: 1 })
    },
  )
  assert.deepEqual(await failuresOf(`http://127.0.0.1:${await freePort()}`, '/'), { refused: 1 })

  const raw = createTcpServer((socket) => void socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\n\r\nto the end')))
  raw.listen(0, '127.0.0.1')
  await once(raw, 'listening')
  bodies.length = 0
  assert.deepEqual(await failuresOf(`http://127.0.0.1:${(raw.address() as AddressInfo).port}`, '/'), {})
  assert.deepEqual(bodies, ['to the end'])
  raw.close()
})

it('threads share the journeys, and their histograms are merged', () => {
  const numbers = new Set<string>()
  return withServer(
    (request, response) => {
      numbers.add(request.url!)
      response.end()
    },
    async (url) => {
      const module = new URL('../support/load-scenario.ts', import.meta.url)
      const { all, journeys } = await runLoadInThreads(module, { url, rate: 300, seconds: 1 }, 2)
      assert.deepEqual([journeys, all.latency.count, numbers.size], [300, 300, 300])
    },
  )
})

it('a generator that was late reports nothing', () =>
  withServer(
    (_request, response) => void response.end(),
    (url) => {
      const busy = {
        name: 'busy',
        async run() {
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30)
        },
      }
      return assert.rejects(runLoad({ url, phases: [{ seconds: 0.5, rate: 100 }], journeys: [busy] }), {
        code: 'LOAD_BOTTLENECK',
      })
    },
  ))

it('other machines, and scenarios that make no sense, are refused', async () => {
  const journeys = [{ name: 'none', run: () => Promise.reject(new Error('not reached')) }]
  const phases = [{ seconds: 1, rate: 1 }]
  for (const [scenario, message] of [
    [{ url: 'http://example.com', phases, journeys }, /example\.com is another machine/],
    [{ url: 'https://127.0.0.1', phases, journeys }, /not the address/],
    [{ url: 'http://127.0.0.1', journeys }, /one of/],
    [{ url: 'http://127.0.0.1', trace: [5, 4], journeys }, /in order/],
    [{ url: 'http://127.0.0.1', phases: [{ seconds: 4_000, rate: 1 }], journeys }, /longer/],
    [{ url: 'http://127.0.0.1', phases, journeys: [] }, /journeys/],
  ] as const)
    await assert.rejects(runLoad(scenario), { code: 'LOAD_INVALID', message })
})

it('a setup runs once and is not counted; a trace begins each journey in its time, and knows its place', async () => {
  const urls: string[] = []
  const log = ['/a', '/b', '/c', '/d']
  await withServer(
    (request, response) => {
      urls.push(request.url!)
      response.end('[1,2]')
    },
    async (url) => {
      const seconds: Second[] = []
      const { all, byJourney, journeys, timeline } = await runLoad(
        defineScenario({
          url,
          ...patient,
          trace: [0, 0, 20, 1_100],
          setup: async (visitor) => (await visitor.request('GET', '/setup')).json<number[]>(),
          journeys: [
            {
              name: 'replay',
              async run(visitor) {
                await visitor.request('GET', log[visitor.number]!, { route: 'any' })
                await visitor.request('GET', `/${visitor.pick(visitor.data)}`, { route: 'any' })
              },
            },
          ],
        }),
        { onSecond: (second) => seconds.push(second) },
      )
      assert.equal(urls[0], '/setup')
      assert.deepEqual(urls.filter((one) => /[a-d]$/.test(one)).sort(), log)
      assert.deepEqual([journeys, all.latency.count, byJourney.get('replay')?.latency.count], [4, 8, 4])
      assert.deepEqual(timeline, seconds)
      assert.ok(timeline.length >= 1 && timeline[0]!.rate > 0 && timeline[0]!.p95 > 0)
    },
  )
  const setup = () => Promise.reject(new Error('nobody is there'))
  await assert.rejects(
    runLoad({ url: 'http://127.0.0.1:1', ...once1, setup, journeys: [{ name: 'none', run: async () => {} }] }),
    { code: 'LOAD_INVALID', message: /setup of the scenario failed: nobody is there/ },
  )
})

it('a setup that the limits of the app refuse says how to start it', () =>
  withServer(
    (_request, response) => response.writeHead(429).end('{"error":"slow down"}'),
    (url) =>
      assert.rejects(
        runLoad({
          url,
          ...once1,
          setup: async (visitor) => (await visitor.request('GET', '/')).json<string[]>().map((one) => one),
          journeys: [{ name: 'none', run: async () => {} }],
        }),
        { code: 'LOAD_INVALID', message: /setup of the scenario failed: 429: .* start it with RUNG_LIMITS=off\.$/ },
      ),
  ))

it('one late journey of few does not make the generator the bottleneck, two do', () =>
  withServer(
    (_request, response) => response.end(),
    async (url) => {
      // Every journey is later than -1 ms.
      const run = (journeys: number) =>
        runLoad({
          url,
          lateMsMax: -1,
          closed: { visitors: 1, journeys },
          journeys: [{ name: 'one', run: (visitor) => visitor.request('GET', '/') }],
        })
      assert.equal((await run(1)).generator.tooLate, 1)
      await assert.rejects(run(2), { code: 'LOAD_BOTTLENECK', message: /began 2 of 2 journeys too late/ })
    },
  ))
