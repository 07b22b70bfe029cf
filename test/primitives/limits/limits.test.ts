import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { defineApp, defineModule, type Identify, type LimitOptions } from 'rung'
import { Type } from 'typebox'
import { metrics } from '../../../src/observe/metrics.ts'
import { networkOf, trustedNetworks } from '../../../src/primitives/http/address.ts'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'

let postgres: TestPostgres
const running: Running[] = []
const children = new Set<ChildProcess>()
before(async () => {
  postgres = await testPostgres()
})
after(async () => {
  for (const child of children) child.kill('SIGKILL')
  for (const one of running) await one.stop()
  await postgres.stop()
})

const identify: Identify = (request) => {
  const [, id, plan] = /^User (\w+)(?: (\w+))?$/.exec(request.headers.authorization ?? '') ?? []
  if (request.headers.authorization?.startsWith('Bad')) throw new Error('a token that is no good')
  return id === undefined ? undefined : { id, plan }
}

const Login = Type.Object({ email: Type.String(), password: Type.String() })
const module = defineModule({
  name: 'm',
  owner: 'tests',
  identify: () => identify,
  routes(http) {
    http.get('/', async () => ({}))
    http.get('/free', { config: { limits: false } }, async () => ({}))
    http.get('/dear', { config: { limits: { max: 2, per: '10m' } } }, async () => ({}))
    http.get('/once', { config: { limits: [{ max: 1, per: '10m', by: 'everyone' }] } }, async () => ({}))
    const config = { login: (request: { body: unknown }) => (request.body as { email: string }).email }
    http.post('/login-unchecked', { config }, async (_request, reply) => reply.status(401).send({}))
    http.post('/login', { config, schema: { body: Login } }, async (request, reply) => {
      await wait(20)
      return reply.status(request.body.password === 'right' ? 200 : 401).send({})
    })
  },
})

async function start(limits: LimitOptions, http = {}, extensions: Parameters<typeof bootForTest>[3] = []) {
  const app = await bootForTest(
    defineApp({ name: 'a', modules: [module], limits, http }),
    postgres,
    { limits: 'on' },
    extensions,
  )
  running.push(app)
  return async (route = '/', headers: Record<string, string> = {}, body?: unknown) => {
    const response = await fetch(app.url + route, {
      headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
    })
    return { status: response.status, headers: response.headers, text: await response.text() }
  }
}
const user = (name: string) => ({ authorization: `User ${name}` })
const statuses = (answers: readonly { status: number }[]) => answers.map(({ status }) => status)
const ten = { per: '10m' } as const

describe('a limit', () => {
  it('is kept for each user, each plan, and each address of the anonymous', async () => {
    const ask = await start({
      user: { max: 2, ...ten },
      address: { max: 4, ...ten },
      plans: { pro: { max: 3, ...ten }, staff: false },
    })
    const times = (n: number, headers = {}) => Promise.all(Array.from({ length: n }, () => ask('/', headers)))
    const admitted = async (n: number, headers = {}) =>
      statuses(await times(n, headers)).filter((status) => status === 200).length
    assert.equal(await admitted(5, user('a')), 2)
    assert.equal(await admitted(5, user('b')), 2)
    assert.equal(await admitted(5, user('c pro')), 3)
    assert.equal(await admitted(9, user('d staff')), 9)
    assert.equal(await admitted(9), 4)
    assert.equal(await admitted(2, { authorization: 'Bad token' }), 0, 'who is nobody is anonymous')
    assert.equal(await admitted(2, { 'x-forwarded-for': '203.0.113.9' }), 0, 'an address can be invented')
  })

  it('is told with every answer, and when to come again', async () => {
    const ask = await start({ user: { max: 2, ...ten } })
    const first = await ask('/', user('a'))
    assert.equal(first.headers.get('ratelimit-policy'), '"user";q=2;w=600')
    assert.match(first.headers.get('ratelimit') ?? '', /^"user";r=1;t=\d+$/)
    await ask('/', user('a'))
    const refused = await ask('/', user('a'))
    const problem = JSON.parse(refused.text)
    assert.equal(refused.status, 429)
    assert.equal(problem.code, 'HTTP_TOO_MANY_REQUESTS')
    assert.match(refused.headers.get('content-type') ?? '', /problem\+json/)
    const [, t] = /^"user";r=0;t=(\d+)$/.exec(refused.headers.get('ratelimit') ?? '') ?? []
    assert.equal(refused.headers.get('retry-after'), t)
    assert.ok(Number(t) > 580 && Number(t) <= 600, t)
    assert.equal(problem.retryAfterS, Number(t))
  })

  it('ends when it said: Retry-After is honest', async () => {
    const ask = await start({ user: { max: 1, per: '2s' } })
    await ask('/', user('a'))
    const refused = await ask('/', user('a'))
    assert.equal(refused.status, 429)
    await wait(Number(refused.headers.get('retry-after')) * 1000)
    assert.equal((await ask('/', user('a'))).status, 200)
  })

  it('of a route comes on top; what one refuses uses up none of the others', async () => {
    const ask = await start({ user: { max: 4, ...ten } })
    const dear = [await ask('/dear', user('a')), await ask('/dear', user('a')), await ask('/dear', user('a'))]
    assert.deepEqual(statuses(dear), [200, 200, 429])
    assert.match(dear[0]!.headers.get('ratelimit') ?? '', /^"user";r=3;t=\d+, "route-principal";r=1;t=\d+$/)
    assert.deepEqual(statuses([await ask('/once', user('a')), await ask('/once', user('b'))]), [200, 429])
    assert.deepEqual(statuses([await ask('/', user('a')), await ask('/', user('a'))]), [200, 429])
  })

  it('is not kept for the health of the process, nor where a route says so; for paths that do not exist it is', async () => {
    const ask = await start({ address: { max: 2, ...ten } }, {}, [
      (http, { data, primitives }) => void metrics(http, data, primitives),
    ])
    for (const route of ['/healthz', '/readyz', '/metrics', '/free', '/free', '/free']) {
      const { status, headers } = await ask(route)
      assert.deepEqual([status, headers.get('ratelimit')], [200, null])
    }
    assert.deepEqual(
      statuses([await ask('/no'), await ask('/no'), await ask('/no'), await ask('/')]),
      [404, 404, 429, 429],
    )
    const { text } = await ask('/metrics')
    assert.match(text, /http_limited_total\{limit="address"\} 2/)
    assert.match(text, /http_request_duration_seconds_count\{[^}]*status="429"[^}]*refused="yes"\} 1/)
  })

  it('goes by what a trusted proxy says, and nobody else', async () => {
    const ask = await start({ address: { max: 1, ...ten } }, { trustProxy: ['loopback'] })
    const from = (address: string) => ask('/', { 'x-forwarded-for': address })
    assert.deepEqual(
      statuses([await from('203.0.113.1'), await from('203.0.113.1'), await from('203.0.113.2')]),
      [200, 429, 200],
    )
    // The proxy appends: what stands before its own word is the client's invention.
    assert.equal((await from('198.51.100.7, 203.0.113.1')).status, 429)
    // All of one IPv6 network are one.
    assert.deepEqual(
      statuses([await from('2001:db8::1'), await from('2001:db8:0:0:ffff::2'), await from('2001:db8:0:1::1')]),
      [200, 429, 200],
    )
    // Engines in front of it are told.
    assert.deepEqual(JSON.parse((await ask('/healthz')).text).trustedProxies, ['127.0.0.0/8', '::1/128'])
  })

  it('that makes no sense stops the start', async () => {
    for (const limits of [
      { user: { max: 0, ...ten } },
      { plans: { a: { max: 1.5, ...ten } } },
      { address: { max: 1, per: 10 } },
    ]) {
      await assert.rejects(start(limits), { code: 'APP_INVALID' })
    }
    for (const trustProxy of [true, ['proxy.example'], [1]] as never[])
      await assert.rejects(start({}, { trustProxy }), { code: 'APP_INVALID' })
    assert.deepEqual(trustedNetworks(['loopback', '10.1.0.0/16']), ['127.0.0.0/8', '::1/128', '10.1.0.0/16'])
  })
})

describe("a route's config", () => {
  const startWith = (config: object) => {
    const loans = defineModule({
      name: 'loans',
      owner: 'tests',
      routes: (http) => void http.post('/loans', { config }, async () => ({})),
    })
    return bootForTest(defineApp({ name: 'a', modules: [loans] }), postgres)
  }

  it('with a key that is nearly one of Rung stops the start', async () => {
    for (const [key, meant] of [
      ['idempotencey', 'idempotency'],
      ['idempotent', 'idempotency'],
      ['limit', 'limits'],
      ['limitss', 'limits'],
      ['cach', 'cache'],
      ['Login', 'login'],
      ['priorty', 'priority'],
      ['sytem', 'system'],
    ]) {
      const message = `POST /loans: config has "${key}"; write ${meant}.`
      await assert.rejects(startWith({ [key!]: 'required' }), { code: 'APP_INVALID', message })
    }
  })

  it('with values that cannot be used stops the start, also where limits are off', async () => {
    for (const [config, message] of [
      [{ limits: { maxx: 5, per: '1m' } }, /config\.limits has the key "maxx"/],
      [{ limits: { per: '1m' } }, /config\.limits has max undefined and per 1m/],
      [
        {
          limits: [
            { max: 5, per: '1m' },
            { max: 5, per: '1 minute' },
          ],
        },
        /has max 5 and per 1 minute/,
      ],
      [{ limits: { max: 5, per: '1m', by: 'adress' } }, /by must be/],
      [{ limits: true }, /Write \{ max: 100, per: '1m' \}/],
      [{ priority: 'critcal' }, /config\.priority must be one of critical, normal, sheddable/],
    ] as const) {
      const invalid = (error: { code: string; message: string }) =>
        error.code === 'APP_INVALID' && error.message.startsWith('POST /loans: ') && message.test(error.message)
      await assert.rejects(startWith(config), invalid, JSON.stringify(config))
    }
  })

  it('may have keys of the app', async () => {
    const keys = { refused: 1, page: 1, log: 1, plugin: 1, rateLimit: 1 }
    running.push(await startWith({ ...keys, limits: { max: 5, per: '1m', by: 'everyone' }, priority: 'critical' }))
  })
})

describe('failed sign-ins', () => {
  const logIn = (ask: Awaited<ReturnType<typeof start>>, email: string, password: string) =>
    ask('/login', {}, { email, password })
  const many = { max: 1_000, ...ten }

  it('are limited by account, however many are tried at once; good ones and mistakes in form are not', async () => {
    const ask = await start({ loginFailures: { account: { max: 5, ...ten }, address: many } })
    for (let n = 0; n < 8; n += 1) assert.equal((await logIn(ask, 'a@example.com', 'right')).status, 200)
    for (let n = 0; n < 8; n += 1) assert.equal((await ask('/login', {}, {})).status, 422)
    await wait(50) // what was good is given back behind its answer
    const tried = await Promise.all(
      Array.from({ length: 30 }, (_, n) => logIn(ask, n % 2 ? 'a@example.com' : 'A@Example.com', 'guess')),
    )
    assert.equal(tried.filter(({ status }) => status === 401).length, 5)
    const refused = tried.find(({ status }) => status === 429)!
    assert.equal(JSON.parse(refused.text).limit, 'login-account')
    assert.ok(Number(refused.headers.get('retry-after')) > 500)
    assert.equal((await logIn(ask, 'a@example.com', 'right')).status, 429)
    assert.equal((await logIn(ask, 'b@example.com', 'right')).status, 200)
  })

  it('are counted together however the account is written', async () => {
    const ask = await start({ loginFailures: { account: { max: 5, ...ten }, address: many } })
    for (const written of [
      ['ann@x.org', 'ANN@x.org', ' ann@x.org', 'ann@x.org ', 'ann@x.org\u00a0', 'ａｎｎ@x.org', '\tann@X.ORG'],
      // What is lower case of what, databases and JavaScript see in different ways.
      ['vic@straße', 'vİc@straße', 'VİC@STRASSE', 'vıc@strasse', 'vi\u0307c@straße', 'víc@straſſe', 'vic@straẞe'],
    ]) {
      const tried = []
      for (const email of written) tried.push((await logIn(ask, email, 'guess')).status)
      assert.deepEqual(tried, [401, 401, 401, 401, 401, 429, 429])
    }
  })

  it('name an account as a text, or are refused as malformed', async () => {
    const ask = await start({ loginFailures: { account: { max: 5, ...ten }, address: many } })
    for (const body of [{ email: 5 }, { email: ['a'] }, { email: {} }, 'text', null])
      assert.equal((await ask('/login-unchecked', {}, body)).status, body === 'text' ? 401 : 422, JSON.stringify(body))
    assert.equal((await ask('/login-unchecked', {}, { email: 'a@x.org' })).status, 401)
  })

  it('are limited by address, over all accounts', async () => {
    const ask = await start({ loginFailures: { account: many, address: { max: 5, ...ten } } })
    const tried = await Promise.all(Array.from({ length: 20 }, () => logIn(ask, randomUUID(), 'guess')))
    assert.equal(tried.filter(({ status }) => status === 401).length, 5)
  })
})

describe('addresses', () => {
  for (const [address, network] of [
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0DB8::6', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    [undefined, 'local'],
  ] as const) {
    it(`${address} → ${network}`, () => assert.equal(networkOf(address), network))
  }
})

it('two processes on one database admit no more than one would, in any window', async (context) => {
  const [max, per] = [60, 2_000]
  const url = urlOf(await postgres.createDatabase())
  const startProcess = async () => {
    const file = path.join(import.meta.dirname, '../../support/till-process.ts')
    const child = fork(file, [JSON.stringify({ url, user: { max, per } })], { execArgv: ['--conditions=rung-source'] })
    children.add(child)
    return new Promise<string>((resolve) => child.once('message', (text) => resolve(String(text))))
  }
  const urls = [await startProcess(), await startProcess()]
  const admitted: { from: number; to: number; process: number }[] = []
  let asked = 0
  const ends = performance.now() + 4 * per
  const client = async (n: number) => {
    while (performance.now() < ends) {
      const from = performance.now()
      asked += 1
      const response = await fetch(`${urls[n % 2]}/hello`, { headers: user('one') })
      await response.arrayBuffer()
      if (response.status === 200) admitted.push({ from, to: performance.now(), process: n % 2 })
      else assert.equal(response.status, 429)
      await wait(Math.random() * 10)
    }
  }
  await Promise.all(Array.from({ length: 16 }, (_, n) => client(n)))
  let most = 0
  for (const { from } of admitted) {
    most = Math.max(most, admitted.filter((one) => one.from >= from && one.to <= from + per).length)
  }
  assert.ok(most <= max, `${most} in one window of ${max}`)
  assert.ok(admitted.length >= 3 * max, `only ${admitted.length} in four windows of ${max}`)
  assert.ok(
    [0, 1].every((n) => admitted.some((one) => one.process === n)),
    'one of them got nothing',
  )
  context.diagnostic(
    `${asked} requests, ${admitted.length} admitted in ${(4 * per) / 1000} s, at most ${most} of ${max} in any ${per} ms`,
  )
})
