import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { defineApp, defineModule, principalOf, type SessionOptions } from 'rung'
import type { Running } from '../../../src/runtime/boot.ts'
import type { Bindings } from '../../../src/topology/bindings.ts'
import { bootForTest } from '../../support/app.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

let postgres: TestPostgres
const running: Running[] = []
before(async () => {
  postgres = await testPostgres()
})
after(async () => {
  for (const one of running) await one.stop()
  await postgres.stop()
})

const module = defineModule({
  name: 'm',
  owner: 'tests',
  routes(http, { sessions }) {
    http.post('/in/:name', async (request, reply) => {
      const id = (request.params as { name: string }).name
      return sessions.signIn(request, reply, { id, plan: 'pro' })
    })
    http.post('/out', async (request, reply) => {
      await sessions.signOut(request, reply)
      return {}
    })
    http.get('/me', async (request) => ({ me: (await principalOf(request)) ?? null }))
    http.post('/change', async (request) => ({ me: (await principalOf(request))?.id ?? null }))
    http.get('/list/:name', (request) => sessions.list((request.params as { name: string }).name))
    http.post('/revoke/:id', async (request) => ({
      done: await sessions.revoke((request.params as { id: string }).id),
    }))
    http.post('/revoke-all/:name', async (request) => ({
      n: await sessions.revokeAll((request.params as { name: string }).name),
    }))
  },
})

async function start(sessions: SessionOptions | undefined = {}, overrides: Partial<Bindings> = {}) {
  const app = defineApp({ name: 'a', modules: [module], ...(sessions && { sessions }) })
  const one = await bootForTest(app, postgres, overrides)
  running.push(one)
  return browser(one.url)
}

function browser(url: string) {
  let cookie: string | undefined
  async function ask(route: string, { method = 'GET', headers = {} as Record<string, string>, as = cookie } = {}) {
    const response = await fetch(url + route, { method, headers: { ...(as && { cookie: as }), ...headers } })
    const set = response.headers.getSetCookie()
    if (set[0]) cookie = set[0].split(';', 1)[0]
    return {
      status: response.status,
      body: (await response.json()) as {
        id: string
        principal: string
        code: string
        me: { id: string } | null
        done: boolean
        n: number
        length: number
      },
      set,
      headers: response.headers,
    }
  }
  return {
    url,
    ask,
    post: (route: string, more = {}) => ask(route, { method: 'POST', ...more }),
    me: async (as?: string) => (await ask('/me', as === undefined ? {} : { as })).body.me?.id as string | undefined,
    cookie: () => cookie,
  }
}

describe('a session', () => {
  it('is a signed cookie that scripts cannot read and other sites do not get', async () => {
    const user = await start()
    assert.equal(await user.me(), undefined)
    const { set, body } = await user.post('/in/ann')
    assert.match(set[0]!, /^session=[\w-]{43}\.[\w-]{43}; Path=\/; Max-Age=2592000; HttpOnly; SameSite=Lax$/)
    assert.deepEqual((await user.ask('/me')).body.me, { id: 'ann', plan: 'pro' })
    assert.equal(body.principal, 'ann')
    assert.ok(!user.cookie()!.includes(body.id))
    const secure = await start({}, { mode: 'production' })
    assert.match((await secure.post('/in/ann')).set[0]!, /^__Host-session=.*; Secure$/)
    assert.equal(await secure.me(), 'ann')
  })

  it('is stored without what would open it', async () => {
    const user = await start()
    await user.post('/in/ann')
    const { pool } = running.at(-1)!.data.forModule(undefined)
    const { rows } = await pool.query('select session::text from rung.session')
    const [secret, signature] = user.cookie()!.slice('session='.length).split('.')
    const text = JSON.stringify(rows)
    for (const part of [secret!, signature!]) {
      assert.ok(!text.includes(part) && !text.includes(Buffer.from(part, 'base64url').toString('hex')))
    }
  })

  it('that was forged or garbled is none', async () => {
    const user = await start()
    await user.post('/in/ann')
    const [secret, signature] = user.cookie()!.split('.') as [string, string]
    const other = `${'A'.repeat(43)}`
    for (const forged of [
      `${secret}.${other}`,
      `session=${other}.${signature}`,
      secret,
      'session=',
      'session=x',
      `other${user.cookie()}`,
    ]) {
      assert.equal(await user.me(forged), undefined, forged)
    }
    assert.equal(await user.me(`a=b; ${user.cookie()}; c`), 'ann')
  })

  it('is a new one at every sign-in, and the one before is over', async () => {
    const user = await start()
    await user.post('/in/ann')
    const first = user.cookie()!
    await user.post('/in/bob')
    assert.notEqual(user.cookie(), first)
    assert.deepEqual([await user.me(), await user.me(first)], ['bob', undefined])
    await user.post('/out')
    const ended = user.cookie()
    assert.equal(ended, 'session=')
    assert.equal(await user.me(), undefined)
  })

  it('changes its secret while it is used, and nobody who uses it loses it', async () => {
    const user = await start({ rotate: 100 })
    await user.post('/in/ann')
    const seen = new Set([user.cookie()!])
    const ends = performance.now() + 4_000
    while (performance.now() < ends) {
      const as = user.cookie()!
      // Several at once; of some the answer is lost.
      const names = await Promise.all([user.me(as), user.me(as), user.me(as)])
      assert.deepEqual(names, ['ann', 'ann', 'ann'])
      seen.add(user.cookie()!)
      await wait(20)
    }
    assert.ok(seen.size >= 3, `${seen.size} secrets`)
  })

  it('is over when an old secret comes after its time: there are two who hold it', async () => {
    const user = await start({ rotate: 100 })
    await user.post('/in/ann')
    const old = user.cookie()!
    await until(async () => (await user.me()) && user.cookie() !== old, 'it has a new secret')
    await user.me() // which is used
    const { pool } = running.at(-1)!.data.forModule(undefined)
    await pool.query("update rung.session set previous_until = now() - interval '1 s'")
    await wait(1_000) // what is believed
    assert.equal(await user.me(old), undefined)
    await wait(1_000)
    assert.equal(await user.me(), undefined)
  })

  it('is over when it was idle for too long, or is too old', async () => {
    const idle = await start({ idle: 300 })
    await idle.post('/in/ann')
    await wait(1_300)
    assert.equal(await idle.me(), undefined)
    const old = await start({ lifetime: 1_200 })
    await old.post('/in/ann')
    const ends = performance.now() + 2_200
    while (performance.now() < ends) {
      await old.me()
      await wait(50)
    }
    assert.equal(await old.me(), undefined)
  })

  it('is there only where the app asks for it', async () => {
    const app = await bootForTest(defineApp({ name: 'a', modules: [module] }), postgres)
    running.push(app)
    assert.equal((await browser(app.url).post('/in/ann')).body.code, 'APP_INVALID')
  })
})

describe('revoking', () => {
  it('holds at once here, and soon in every other process', async () => {
    const user = await start()
    const { url } = running.at(-1)!.server.connection as { url: string }
    const other = await bootForTest(defineApp({ name: 'a', modules: [module], sessions: {} }), postgres, {}, [], {
      DATABASE_URL: url,
    })
    running.push(other)
    const elsewhere = browser(other.url)
    const { body } = await user.post('/in/ann')
    await user.post('/in/ann')
    const cookie = user.cookie()!
    for (let n = 0; n < 3; n += 1) assert.equal(await elsewhere.me(cookie), 'ann')
    assert.equal(await user.me(cookie), 'ann')
    assert.equal((await user.ask('/list/ann')).body.length, 1)
    assert.equal((await user.post(`/revoke/${body.id}`)).body.done, false) // the sign-in after it did
    assert.equal((await user.post('/revoke-all/ann')).body.n, 1)
    assert.equal(await user.me(cookie), undefined)
    await until(async () => (await elsewhere.me(cookie)) === undefined, 'it is known there')
  })
})

describe('a page of another site', () => {
  it('cannot use the cookie for what changes anything', async () => {
    const user = await start({ origins: ['https://admin.example.com'] })
    await user.post('/in/ann')
    const { host } = new URL(user.url)
    const change = async (headers: Record<string, string>, more = {}) =>
      (await user.post('/change', { headers, ...more })).status
    for (const [headers, status] of [
      [{}, 200], // no browser
      [{ 'sec-fetch-site': 'same-origin' }, 200],
      [{ 'sec-fetch-site': 'none' }, 200],
      [{ 'sec-fetch-site': 'cross-site' }, 403],
      [{ 'sec-fetch-site': 'same-site' }, 403],
      [{ 'sec-fetch-site': 'cross-site', origin: `http://${host}` }, 403],
      [{ 'sec-fetch-site': 'cross-site', origin: 'https://admin.example.com' }, 200],
      [{ origin: `http://${host}` }, 200],
      [{ origin: 'https://evil.example.com' }, 403],
      [{ origin: 'null' }, 403],
      [{ origin: 'https://admin.example.com' }, 200],
    ] as [Record<string, string>, number][]) {
      assert.equal(await change(headers), status, JSON.stringify(headers))
    }
    const evil = { headers: { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example.com' } }
    assert.equal((await user.ask('/me', evil)).status, 200, 'a link from elsewhere may lead here')
    assert.equal(
      (await user.post('/change', { ...evil, as: 'session=forged' })).status,
      200,
      'without a session there is nothing to abuse',
    )
    assert.equal((await user.post('/in/eve', { ...evil, as: 'a=b' })).status, 403, 'nor can it sign its visitor in')
  })
})
