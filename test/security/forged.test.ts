import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import { unsubscribeLinks } from '../../examples/conduit/notifications/unsubscribe-link.ts'
import { advance } from '../../src/kernel/position.ts'
import { currentScope } from '../../src/kernel/scope.ts'
import { createHttp } from '../../src/primitives/http/http.ts'
import { memoryPositions } from '../../src/primitives/positions/memory.ts'
import { carryPositions } from '../../src/primitives/positions/positions.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { deriveKeys } from '../../src/runtime/secrets.ts'
import { conduitClient, expectBody, type Person } from '../rungs/conduit-client.ts'
import { visitor } from '../rungs/conduit-visitor.ts'
import { bootForTest, rootSecret } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { altered, type Forgeries, forgedJwts, forgedSigned } from './forgeries.ts'

const keys = deriveKeys(rootSecret)
const key = (purpose: string) => keys(purpose).signing.export()
const purposes = {
  tokens: 'identity/tokens',
  sessions: 'rung sessions',
  positions: 'rung positions',
  files: 'rung/files-url',
  unsubscribe: 'notifications/unsubscribe',
  mail: 'rung/mail-id',
} as const
const keysBut = (own: keyof typeof purposes): Record<string, Uint8Array> => ({
  'the root of all': Buffer.from(rootSecret),
  ...Object.fromEntries(
    Object.entries(purposes)
      .filter(([name]) => name !== own)
      .map(([name, purpose]) => [name, key(purpose)]),
  ),
})

/** All that this file tries, so that it can say how many they are. */
let tried = 0

async function eachOf(forgeries: Forgeries, judge: (forged: string) => Promise<void>): Promise<void> {
  for (const [name, forged] of Object.entries(forgeries)) {
    tried += 1
    await judge(forged).catch((error) => assert.fail(`${name}: ${error.message}`))
  }
}

describe('what nobody signed', () => {
  let postgres: TestPostgres
  let running: Running
  let own: Person
  let victim: Person
  const target = () => ({ baseUrl: running.url })
  const api = conduitClient(target)
  before(async () => {
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres)
    own = await api.person()
    victim = await api.person()
  })
  after(async () => {
    await running?.stop()
    await postgres?.stop()
  })

  async function ask(path: string, init: RequestInit = {}): Promise<{ status: number; text: string }> {
    const response = await fetch(running.url + path, { redirect: 'manual', ...init })
    const text = await response.text()
    assert.ok(response.status < 500, `${path} answered ${response.status} ${text}`)
    return { status: response.status, text }
  }

  it('is no token', async () => {
    const forgeries = forgedJwts(own.token, victim.token, key(purposes.tokens), keysBut('tokens'))
    await eachOf(forgeries, async (forged) => {
      const authorization = `Token ${forged}`
      assert.equal((await ask('/api/user', { headers: { authorization } })).status, 401)
      const body = JSON.stringify({ user: { bio: 'forged' } })
      const headers = { authorization, 'content-type': 'application/json' }
      assert.equal((await ask('/api/user', { method: 'PUT', headers, body })).status, 401)
    })
    const { user } = expectBody(await api.get('/user', victim.token))
    assert.deepEqual([user.username, user.bio], [victim.username, null])
  })

  it('is no session', async () => {
    const [mine, theirs] = [visitor(target), visitor(target)]
    await mine.signUp()
    const { username } = await theirs.signUp()
    const cookieOf = (of: typeof mine) => of.cookies.get('session')!
    const good = cookieOf(theirs)
    const isIn = async (cookie: string) => {
      const { status, text } = await ask('/settings', { headers: { cookie } })
      assert.ok(status === 200 || status === 303, String(status))
      return status === 200 || text.includes(username)
    }
    assert.equal(await isIn(`session=${good}`), true)
    const signedOut = cookieOf(mine)
    await mine.send('/logout')
    const forgeries = {
      ...forgedSigned(signedOut, good, keysBut('sessions')),
      'the cookie of somebody who has signed out': signedOut,
      'a token of the API': victim.token,
      'a position': decodeURIComponent(theirs.cookies.get('rung-position') ?? 'main:1/0/0.1.x'),
      encoded: encodeURIComponent(good).replace('.', '%2E'),
    }
    await eachOf(forgeries, async (forged) => assert.equal(await isIn(`session=${forged}`), false))
    for (const name of ['__Host-session', 'Session', 'SESSION', 'session ', 'sessions', '$session', 'session[]']) {
      tried += 1
      assert.equal(await isIn(`${name}=${good}`), false, name)
    }
    assert.equal(await isIn(`session=${signedOut}; session=${good}`), false, 'the first one counts')
    assert.equal(await isIn(`session=${good}`), true, 'it is still good')
    const authorization = `Token ${good}`
    assert.equal((await ask('/api/user', { headers: { authorization } })).status, 401, 'it is no token of the API')
  })

  it('is no link to leave the mailing list', async () => {
    const links = unsubscribeLinks(() => [key(purposes.unsubscribe)])
    const tokenOf = (id: number) => links.url(id).split('/').at(-1)!
    const idOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()).sub
    const [mine, theirs] = [own, victim].map(({ token }) => tokenOf(Number(idOf(token)))) as [string, string]
    const path = (token: string) => `/api/notifications/unsubscribe/${encodeURIComponent(token)}`
    assert.equal((await ask(path(theirs))).status, 200)
    await eachOf(forgedSigned(mine, theirs, keysBut('unsubscribe')), async (forged) => {
      const { status } = await ask(path(forged), { method: 'POST' })
      assert.ok(status >= 400, `answered ${status}`)
    })
  })

  it('is no URL of a file', async () => {
    const headers = { authorization: `Token ${victim.token}` }
    const { text: asked } = await ask('/api/user/export', { method: 'POST', headers })
    const { statusUrl } = JSON.parse(asked).export
    const download = await until(async () => {
      const { text } = await ask(new URL(statusUrl, running.url).pathname, { headers })
      return (JSON.parse(text).export.downloadUrl as string | null) ?? false
    }, 'the export is written')
    const good = new URL(download, running.url)
    assert.equal((await ask(good.pathname + good.search)).status, 200)
    const signature = good.searchParams.get('signature')!
    const changed = (change: (url: URL) => void) => {
      const url = new URL(good)
      change(url)
      return url.pathname + url.search
    }
    const set = (name: string, value: string) => changed((url) => url.searchParams.set(name, value))
    const forgeries: Forgeries = Object.fromEntries(
      Object.entries(altered(signature)).map(([name, text]) => [`signature ${name}`, set('signature', text)]),
    )
    for (const name of good.searchParams.keys()) {
      forgeries[`without ${name}`] = changed((url) => url.searchParams.delete(name))
      forgeries[`${name} twice`] = changed((url) => url.searchParams.append(name, url.searchParams.get(name)!))
      forgeries[`${name} empty`] = set(name, '')
      forgeries[`${name} in capitals`] = `${good.pathname}${good.search.replace(name, name.toUpperCase())}`
    }
    Object.assign(forgeries, {
      'valid for longer': set('expires', String(Number(good.searchParams.get('expires')) + 1)),
      'valid for ever': set('expires', '1e99'),
      'for another method': set('method', 'PUT'),
      'with a larger size': set('sizeMax', '999999999'),
      'with other types': set('types', 'text/html'),
      'with what was never signed': set('evil', '1'),
      'of another file': changed((url) => {
        url.pathname = url.pathname.replace(/\d+\.json$/, '1234567.json')
      }),
      'of a file above': `${good.pathname}/../x${good.search}`,
      'of a file above, encoded': `${good.pathname}%2F..%2Fx${good.search}`,
      'of a file with a NUL': `${good.pathname}%00${good.search}`,
      'of another module': changed((url) => {
        url.pathname = url.pathname.replace('/exports/', '/avatars/')
      }),
    })
    await eachOf(forgeries, async (forged) => {
      const { status } = await ask(forged)
      assert.ok(status >= 400, `answered ${status}`)
    })
    for (const method of ['PUT', 'POST', 'DELETE']) {
      tried += 1
      const { status } = await ask(good.pathname + good.search, { method, body: 'x' })
      assert.ok(status >= 400, `${method} answered ${status}`)
    }
  })

  it('is no position', async () => {
    const http = await createHttp({ logger: createLog('test', 'silent'), revealing: false })
    let forgedOnes = 0
    const trouble = () => {
      forgedOnes += 1
    }
    const options = { records: memoryPositions(), secure: false, lags: true, readsMove: true, trouble }
    carryPositions(http, { ...options, keys: keys(purposes.positions) })
    http.get('/', () => String(currentScope()!.position.get('main') ?? 'none'))
    http.post('/:place', (request) => {
      const scope = currentScope()!
      scope.wrote = true
      scope.position = advance(scope.position, 'main', BigInt((request.params as { place: string }).place))
      return ''
    })
    try {
      const cookieAt = async (place: string) => {
        const { headers } = await http.inject({ method: 'POST', url: `/${place}` })
        return decodeURIComponent(/rung-position=([^;]*)/.exec(String(headers['set-cookie']))![1]!)
      }
      const [mine, other] = [await cookieAt('7'), await cookieAt('99')]
      const seenWith = async (value: string) => {
        const cookie = `rung-position=${encodeURIComponent(value)}`
        return (await http.inject({ url: '/', headers: { cookie } })).body
      }
      assert.equal(await seenWith(mine), '7')
      const macOf = (value: string) => value.split('.').at(-1)!
      const restOf = (value: string) => value.slice(0, value.lastIndexOf('.'))
      const forgeries = {
        ...altered(mine),
        'the signature of another one': `${restOf(mine)}.${macOf(other)}`,
        'a place far ahead': `${restOf(mine).replace(/[^.]*/, 'main:FFFFFFFF/FFFFFFFF/FFFFFFFF')}.${macOf(mine)}`,
        'a database more': `other:1/0/1+${mine}`,
        'a later time': `${restOf(mine).replace(/\d$/, '9')}0.${macOf(mine)}`,
        'no signature': restOf(mine),
      }
      const before = forgedOnes
      await eachOf(forgeries, async (forged) => assert.equal(await seenWith(forged), 'none'))
      assert.equal(forgedOnes - before, Object.keys(forgeries).length, 'each is told to observers')
    } finally {
      await http.close()
    }
  })

  it('was tried in many ways', (t) => {
    t.diagnostic(`${tried} forgeries`)
    assert.ok(tried >= 200, String(tried))
  })
})
