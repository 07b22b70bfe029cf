import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Caller, type GateSettings, verdictOn } from '../../src/console/gate.ts'

const token = 'a'.repeat(43)
const settings: GateSettings = {
  token,
  origins: ['http://127.0.0.1:4600', 'http://localhost:4600'],
  acts: true,
}
const entered = verdictOn(
  { method: 'GET', host: '127.0.0.1:4600', origin: undefined, cookie: undefined, token },
  settings,
)
const cookie = 'setCookie' in entered ? entered.setCookie.split(';')[0]! : ''
const own: Caller = {
  method: 'POST',
  host: '127.0.0.1:4600',
  origin: 'http://127.0.0.1:4600',
  cookie: `other=1; ${cookie}`,
  token: undefined,
}
const verdict = (changes: Partial<Caller>, changed: Partial<GateSettings> = {}) => {
  const found = verdictOn({ ...own, ...changes }, { ...settings, ...changed })
  if (found.enters) return 'enters'
  return 'status' in found ? found.status : 'gets the cookie'
}

describe('the gate of the console', () => {
  it('exchanges the token of the address for a cookie that no script reads and no other site sends', () => {
    assert.ok('setCookie' in entered)
    assert.match(entered.setCookie, /^rung-console-[0-9a-f]{8}=a{43}; .*HttpOnly; SameSite=Strict$/)
    assert.equal(verdict({ method: 'POST', cookie: undefined, token }), 401, 'a change takes none')
  })

  for (const [who, changes, expected] of [
    ['one with the cookie', {}, 'enters'],
    ['one that looks', { method: 'GET', origin: undefined }, 'enters'],
    ['one without a cookie', { cookie: undefined }, 401],
    ['one with another token', { cookie: cookie.replace('a', 'b') }, 401],
    ['one with another token in the address', { method: 'GET', cookie: undefined, token: 'b'.repeat(43) }, 401],
    ['a page of another site', { origin: 'https://evil.example' }, 403],
    ['a page in a frame without an origin', { origin: 'null' }, 403],
    ['a client that names no origin', { origin: undefined }, 403],
    ['a page of another port', { origin: 'http://127.0.0.1:4601' }, 403],
    ['a name that leads here (DNS rebinding)', { host: 'evil.example:4600' }, 421],
    ['a name that leads here, and looks', { host: 'evil.example:4600', method: 'GET' }, 421],
    ['one that names no host', { host: undefined }, 421],
  ] as const)
    it(`${expected === 'enters' ? 'lets in' : `answers ${expected}:`} ${who}`, () =>
      assert.equal(verdict(changes), expected))

  it('changes nothing unless it was started so', () => {
    assert.equal(verdict({}, { acts: false }), 403)
    assert.equal(verdict({ method: 'GET' }, { acts: false }), 'enters')
  })

  it('behind a proxy is at the address of the proxy alone', () => {
    const behind = { origins: ['https://console.example.org'] }
    assert.equal(verdict({}, behind), 421)
    assert.equal(verdict({ host: 'console.example.org', origin: 'https://console.example.org' }, behind), 'enters')
    assert.equal(verdict({ host: 'console.example.org', origin: 'http://console.example.org' }, behind), 403)
  })
})
