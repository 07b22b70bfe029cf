import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type ErrorCode, isRungError } from '../../../src/kernel/errors.ts'
import { html } from '../../../src/kernel/html.ts'
import { keysOf } from '../../../src/kernel/keys.ts'
import { parseAddress, parseMailbox } from '../../../src/kernel/mail-address.ts'
import type { ComposedMail } from '../../../src/primitives/mail/contract.ts'
import { createMail, type MailMessage } from '../../../src/primitives/mail/mail.ts'
import { readMessage } from '../../../src/primitives/mail/read-message.ts'

const coded = (code: ErrorCode) => (error: unknown) => isRungError(error, code)

function outbox({ inTransaction = false, idKeys = keysOf(new Uint8Array(32)) } = {}) {
  const sent: ComposedMail[] = []
  const transport = {
    async send(mail: ComposedMail) {
      sent.push(mail)
      return []
    },
    async close() {},
  }
  const from = { name: 'Shop', address: 'shop@example.org' }
  const root = createMail({ transport, from, idKeys, inTransaction: () => inTransaction })
  return { root, mail: root.forModule('shop'), sent, headers: () => readMessage(sent.at(-1)!.content).headers }
}

const plain: MailMessage = { to: 'bob@example.org', subject: 'Hello', text: 'Hello Bob' }

describe('mail', () => {
  it('has a message id that its key decides', async () => {
    const { root, mail, headers } = outbox()
    const idOf = async (message: MailMessage, by = mail) => (await by.send(message)).messageId
    const first = await idOf({ ...plain, key: 'welcome/7' })
    assert.match(first, /^<[0-9a-f]{36}@example\.org>$/)
    assert.equal(headers().get('message-id'), first)
    assert.equal(await idOf({ ...plain, subject: 'Again', key: 'welcome/7' }), first)
    assert.notEqual(await idOf({ ...plain, key: 'welcome/8' }), first)
    assert.notEqual(await idOf({ ...plain, key: 'welcome/7' }, root.forModule('other')), first)
    const elsewhere = outbox({ idKeys: keysOf(new Uint8Array(32).fill(1)) }).mail
    assert.notEqual(await idOf({ ...plain, key: 'welcome/7' }, elsewhere), first)
    assert.notEqual(await idOf(plain), await idOf(plain))
  })

  it('goes to everybody named, once, and names no hidden one', async () => {
    const { mail, sent, headers } = outbox()
    await mail.send({
      ...plain,
      to: ['bob@example.org', { name: 'Eve, "the" <boss>', address: 'eve@example.org' }],
      cc: 'cc@example.org',
      bcc: ['bcc@example.org', 'bob@example.org'],
      from: 'me@example.com',
      replyTo: 'reply@example.org',
    })
    assert.deepEqual(sent[0]?.to, ['bob@example.org', 'eve@example.org', 'cc@example.org', 'bcc@example.org'])
    assert.equal(sent[0]?.from, 'me@example.com')
    assert.equal(headers().get('from'), 'me@example.com')
    assert.equal(headers().get('reply-to'), 'reply@example.org')
    assert.equal(headers().get('cc'), 'cc@example.org')
    assert.doesNotMatch(Buffer.from(sent[0]!.content).toString(), /bcc/i)
  })

  it('can be unsubscribed from with one click', async () => {
    const { mail, headers } = outbox()
    const url = `https://example.org/u?token=${'x'.repeat(300)},<y>`
    await mail.send({ ...plain, unsubscribe: url })
    assert.equal(headers().get('list-unsubscribe'), `<${new URL(url).href}>`)
    assert.equal(headers().get('list-unsubscribe-post'), 'List-Unsubscribe=One-Click')
    for (const unsubscribe of ['http://example.org/u', 'mailto:a@example.org', 'nothing']) {
      await assert.rejects(mail.send({ ...plain, unsubscribe }), coded('MAIL_INVALID'))
    }
  })

  it('takes further headers, but not those that it writes itself', async () => {
    const { mail, headers } = outbox()
    await mail.send({ ...plain, headers: { 'X-Order': '7 ä', 'Auto-Submitted': 'auto-generated' } })
    assert.equal(headers().get('x-order'), '7 ä')
    assert.equal(headers().get('auto-submitted'), 'auto-generated')
    const wrong = {
      Bcc: 'x@example.org',
      'content-type': 'text/html',
      'X A': '1',
      'X-A\r\nB': '1',
      'X-B': '1\r\nBcc: x@y.z',
    }
    for (const [name, value] of Object.entries(wrong)) {
      await assert.rejects(mail.send({ ...plain, headers: { [name]: value } }), coded('MAIL_INVALID'))
    }
  })

  it('is refused when its form is wrong', async () => {
    const { mail, sent } = outbox()
    const wrong: Partial<MailMessage>[] = [
      { to: [] },
      { to: Array.from({ length: 101 }, (_, n) => `a${n}@example.org`) },
      { to: 'a@example.org, b@example.org' },
      { to: { name: 'A\r\nBcc: x@example.org', address: 'a@example.org' } },
      { replyTo: 'a@b\r\nBcc: x@example.org' },
      { subject: 'A\r\nBcc: x@example.org' },
      { subject: 'x'.repeat(256) },
      { text: ' ' },
      { html: '<b>not escaped</b>' as never },
    ]
    for (const part of wrong) await assert.rejects(mail.send({ ...plain, ...part }), coded('MAIL_INVALID'))
    await assert.rejects(mail.send({ ...plain, text: 'x'.repeat(11 * 1024 * 1024) }), coded('MAIL_TOO_LARGE'))
    assert.deepEqual(sent, [])
  })

  it('is not sent inside a transaction', async () => {
    const { mail, sent } = outbox({ inTransaction: true })
    await assert.rejects(mail.send(plain), coded('MAIL_IN_TRANSACTION'))
    assert.deepEqual(sent, [])
  })

  it('has only the headers and recipients that it was given, whatever is put into it', async () => {
    const { mail, sent } = outbox()
    const known = new Set(['from', 'to', 'subject', 'message-id', 'date', 'mime-version', 'x-note', 'content-type'])
    known.add('content-transfer-encoding').add('reply-to')
    const evil = fc.constantFrom(
      '\r\n',
      '\n',
      '\r',
      '\u2028',
      ',',
      ';',
      '<',
      '>',
      '"',
      '\\',
      '(',
      ')',
      ':',
      '=?utf-8?Q?=0ABcc?=',
    )
    const text = fc
      .array(fc.oneof(evil, fc.string({ unit: 'grapheme', maxLength: 10 })), { maxLength: 12 })
      .map((pieces) => pieces.join(''))
    const message = fc.record({ subject: text, text, name: text, address: text, note: text })
    await fc.assert(
      fc.asyncProperty(message, async ({ subject, text, name, address, note }) => {
        const before = sent.length
        const to = { name, address: 'bob@example.org' }
        const all: MailMessage[] = [
          { to, subject, text: `-${text}`, headers: { 'X-Note': note } },
          { ...plain, replyTo: address },
          { ...plain, to: address },
        ]
        for (const one of all) {
          await mail.send(one).catch((error) => assert.ok(isRungError(error, 'MAIL_INVALID'), String(error)))
        }
        for (const { content, to: recipients } of sent.slice(before)) {
          assert.equal(recipients.length, 1)
          const { headers } = readMessage(content)
          assert.deepEqual(
            [...headers.keys()].filter((header) => !known.has(header)),
            [],
          )
        }
      }),
      { numRuns: 500 },
    )
    assert.ok(sent.length > 50)
  })
})

describe('addresses', () => {
  it('are one mailbox that can stand in an envelope', () => {
    const good = ['a@example.org', "o'hara+tag@sub.example.org", 'a.b@localhost', 'a@xn--bcher-kva.example']
    for (const one of good) assert.deepEqual(parseAddress(one), { name: '', address: one })
    assert.equal(parseAddress('a@bücher.example')?.address, 'a@xn--bcher-kva.example')
    const bad = [
      '',
      'a',
      '@b.c',
      'a@',
      'a@b@c',
      'a b@c.d',
      'a..b@c.d',
      '.a@c.d',
      'a@-c.d',
      'a@c..d',
      'a@[1.2.3.4]',
      'ä@b.c',
    ]
    bad.push(
      '<a@b.c>',
      'A <a@b.c>',
      'a@b.c,d@e.f',
      'a@b.c\r\nX: y',
      `${'a'.repeat(65)}@b.c`,
      `a@${'b'.repeat(64)}.c`,
      'a@b.c.',
    )
    for (const one of bad) assert.equal(parseAddress(one), undefined, one)
  })

  it('of a setting may have a name', () => {
    assert.deepEqual(parseMailbox('My Shop <shop@example.org>'), { name: 'My Shop', address: 'shop@example.org' })
    assert.deepEqual(parseMailbox('shop@example.org'), { name: '', address: 'shop@example.org' })
    for (const bad of ['My Shop', '<shop>', 'A <a@b.c> <d@e.f>', 'A <a@b.c']) assert.equal(parseMailbox(bad), undefined)
  })
})

describe('html', () => {
  it('escapes what is put into it, and nothing that it made itself', () => {
    const items = ['<1>', '2'].map((item) => html`<li>${item}</li>`)
    const page = html`<a title="${`"'&`}">${'<b>'}${1}${null}${undefined}${false}</a><ul>${items}</ul>`
    assert.equal(String(page), '<a title="&quot;&#39;&amp;">&lt;b&gt;1</a><ul><li>&lt;1&gt;</li><li>2</li></ul>')
  })
})
