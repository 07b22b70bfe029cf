import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { type ErrorCode, isRungError } from '../../../src/kernel/errors.ts'
import type { MailTransport } from '../../../src/primitives/mail/contract.ts'
import { smtpMail } from '../../../src/primitives/mail/smtp.ts'
import { parseSmtpUrl } from '../../../src/topology/urls.ts'
import { startSmtp, type TestSmtp } from '../../support/smtp.ts'

const content = Buffer.from('Subject: x\r\n\r\nx\r\n')
const password = 'hunter2:@/'
const failed = (code: ErrorCode, smtp?: number) => (error: unknown) =>
  isRungError(error, code) && error.facts.smtp === smtp && !inspect(error, { depth: 9 }).includes(password)

describe('mail through a server', () => {
  let server: TestSmtp
  let guarded: TestSmtp
  let transport: MailTransport
  const opened: MailTransport[] = []

  function connect(url: string): MailTransport {
    const one = smtpMail(parseSmtpUrl(url)!)
    opened.push(one)
    return one
  }
  before(async () => {
    server = await startSmtp()
    guarded = await startSmtp({
      authOptional: false,
      allowInsecureAuth: true,
      size: 1000,
      onAuth({ username, password: given }, _session, done) {
        if (username === 'ann' && given === password) return done(null, { user: username })
        done(Object.assign(new Error('no'), { responseCode: username === 'later' ? 454 : 535 }))
      },
    })
    transport = connect(`smtp://127.0.0.1:${server.port}`)
  })
  beforeEach(() => {
    server.refusals.clear()
    server.verdict = undefined
  })
  after(async () => {
    for (const one of opened) await one.close()
    await server.close()
    await guarded.close()
  })

  const send = (to: string[], by = transport) => by.send({ from: 'ann@example.org', to, content })
  const secretly = encodeURIComponent(password)

  it('tells replies that may pass from those that will not', async () => {
    for (const [code, reply] of [
      ['MAIL_UNAVAILABLE', 450],
      ['MAIL_REFUSED', 550],
    ] as const) {
      server.refusals.set('bob@example.org', reply)
      await assert.rejects(send(['bob@example.org']), failed(code, reply))
    }
    server.refusals.clear()
    for (const [code, reply] of [
      ['MAIL_UNAVAILABLE', 451],
      ['MAIL_REFUSED', 554],
    ] as const) {
      server.verdict = reply
      await assert.rejects(send(['bob@example.org']), failed(code, reply))
    }
  })

  it('tries again where one of several may be accepted later', async () => {
    server.refusals.set('bob@example.org', 450).set('eve@example.org', 550)
    await assert.rejects(send(['bob@example.org', 'eve@example.org']), failed('MAIL_UNAVAILABLE', 450))
  })

  it('names those who were refused while others got it', async () => {
    server.refusals.set('bob@example.org', 550)
    assert.deepEqual(await send(['bob@example.org', 'eve@example.org']), ['bob@example.org'])
    assert.deepEqual(server.received.at(-1)?.to, ['eve@example.org'])
  })

  it('signs in, and says so when it cannot, without the password', async () => {
    const at = `127.0.0.1:${guarded.port}`
    assert.deepEqual(await send(['bob@example.org'], connect(`smtp://ann:${secretly}@${at}`)), [])
    await assert.rejects(
      send(['bob@example.org'], connect(`smtp://eve:${secretly}@${at}`)),
      failed('MAIL_REFUSED', 535),
    )
    await assert.rejects(
      send(['bob@example.org'], connect(`smtp://later:${secretly}@${at}`)),
      failed('MAIL_UNAVAILABLE', 454),
    )
  })

  it('does not try again what is larger than the server takes', async () => {
    const large = { from: 'ann@example.org', to: ['bob@example.org'], content: Buffer.alloc(2000, 'x\r\n') }
    const refused = connect(`smtp://ann:${secretly}@127.0.0.1:${guarded.port}`).send(large)
    await assert.rejects(refused, (error) => isRungError(error, 'MAIL_REFUSED'))
  })

  it('sends no password in the clear over a network', async () => {
    const host = process.platform === 'linux' ? '0.0.0.0' : '::ffff:127.0.0.1' // this machine, but not by a loopback name
    const before = guarded.received.length
    const refused = send(['bob@example.org'], connect(`smtp://ann:${secretly}@${host}:${guarded.port}`))
    await assert.rejects(refused, failed('MAIL_UNAVAILABLE', 500)) // it has no STARTTLS
    assert.equal(guarded.received.length, before)
  })

  it('waits for nobody who is not there', async () => {
    await assert.rejects(
      send(['bob@example.org'], connect('smtp://127.0.0.1:1')),
      (error) => failed('MAIL_UNAVAILABLE')(error) && !String(error).includes('127.0.0.1'), // clients see the message
    )
  })
})

describe('the URL of a mail server', () => {
  it('names host, port, TLS and who signs in', () => {
    assert.deepEqual(parseSmtpUrl('smtp://mail.example.org'), {
      host: 'mail.example.org',
      port: 587,
      secure: false,
      auth: undefined,
    })
    assert.deepEqual(parseSmtpUrl('smtps://a%40b:p%3A%2F@[::1]:2465'), {
      host: '::1',
      port: 2465,
      secure: true,
      auth: { user: 'a@b', pass: 'p:/' },
    })
    const bad = [
      '',
      'mail.example.org',
      'http://a',
      'smtp://',
      'smtp://a:b:c',
      'smtp://a/path',
      'smtp://a?tls=no',
      'smtp://u:%zz@a',
    ]
    for (const one of bad) assert.equal(parseSmtpUrl(one), undefined, one)
  })
})
