import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Caller, type GateSettings, passOf, verdictOn } from '../../src/console/gate.ts'

const token = 'a'.repeat(43)
const settings: GateSettings = {
  token,
  origins: ['http://127.0.0.1:4600', 'http://localhost:4600'],
  acts: true,
}
const own: Caller = {
  method: 'POST',
  host: '127.0.0.1:4600',
  origin: 'http://127.0.0.1:4600',
  folder: 'do',
  authorization: `Bearer ${token}`,
  pass: undefined,
}
const frame = { method: 'GET', folder: 'content', authorization: undefined } as const
const verdict = (changes: Partial<Caller>, changed: Partial<GateSettings> = {}) => {
  const found = verdictOn({ ...own, ...changes }, { ...settings, ...changed })
  return found.enters ? 'enters' : found.status
}

describe('the gate of the console', () => {
  for (const [who, changes, expected] of [
    ['one with the token', {}, 'enters'],
    ['one that looks', { method: 'GET', folder: 'view', origin: undefined }, 'enters'],
    ['everybody who asks for a page', { method: 'GET', folder: 'topology', authorization: undefined }, 'enters'],
    ['one without the token', { authorization: undefined }, 401],
    ['one with another token', { authorization: `Bearer ${'b'.repeat(43)}` }, 401],
    ['one that changes something at the address of a page', { folder: 'x', authorization: undefined }, 401],
    ['a frame with the pass of its folder', { ...frame, pass: passOf('content', token) }, 'enters'],
    ['a frame with the pass of another folder', { ...frame, pass: passOf('live', token) }, 401],
    ['a frame with the token', { ...frame, pass: token }, 401],
    ['a read model with a pass', { ...frame, folder: 'view', pass: passOf('view', token) }, 401],
    ['a change with a pass', { authorization: undefined, pass: passOf('do', token) }, 401],
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
    assert.equal(verdict({ method: 'GET', folder: 'view' }, { acts: false }), 'enters')
  })

  it('behind a proxy is at the address of the proxy alone', () => {
    const behind = { origins: ['https://console.example.org'] }
    assert.equal(verdict({}, behind), 421)
    assert.equal(verdict({ host: 'console.example.org', origin: 'https://console.example.org' }, behind), 'enters')
    assert.equal(verdict({ host: 'console.example.org', origin: 'http://console.example.org' }, behind), 403)
  })
})
