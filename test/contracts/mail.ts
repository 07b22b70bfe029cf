import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRungError } from '../../src/kernel/errors.ts'
import { html } from '../../src/kernel/html.ts'
import { keysOf } from '../../src/kernel/keys.ts'
import type { MailTransport } from '../../src/primitives/mail/contract.ts'
import { createMail } from '../../src/primitives/mail/mail.ts'
import { readMessage } from '../../src/primitives/mail/read-message.ts'
import type { Received } from '../support/smtp.ts'

export interface OpenTransport {
  transport: MailTransport
  /** All that arrived, in the order in which it did. */
  received(): Promise<Received[]>
  /** Makes it unreachable, and reachable again. */
  interrupt(): Promise<unknown>
  restore(): Promise<unknown>
  close(): Promise<unknown>
}

/**
 * What every adapter of the mail primitive keeps. Replies 4xx and 5xx are tested with the adapter that has them: a folder
 * refuses nobody.
 */
export function mailContract(name: string, open: () => Promise<OpenTransport>): void {
  describe(`mail contract: ${name}`, () => {
    let opened: OpenTransport
    before(async () => {
      opened = await open()
    })
    after(async () => {
      await opened.transport.close()
      await opened.close()
    })

    const send = (content: string, to = ['bob@example.org']) =>
      opened.transport.send({ from: 'ann@example.org', to, content: Buffer.from(content) })
    const last = async () => (await opened.received()).at(-1)!

    it('brings the content byte for byte to all of the envelope', async () => {
      const lines = ['.', '..', '.dot', 'From bob', 'QUIT', '', '   ', 'x'.repeat(998), '\'"\\<>&=3D', '--x', '']
      const content = `Subject: bytes\r\nBcc: is-a-header@example.org\r\n\r\n${lines.join('\r\n')}\r\n`
      assert.deepEqual(await send(content, ['bob@example.org', "o'hara+tag@sub.example.org"]), [])
      const { from, to, content: arrived } = await last()
      assert.equal(from, 'ann@example.org')
      assert.deepEqual(to, ['bob@example.org', "o'hara+tag@sub.example.org"])
      assert.equal(arrived, content)
    })

    it('brings a large one, and many at once', async () => {
      const before = (await opened.received()).length
      const large = `Subject: large\r\n\r\n${`${'y'.repeat(70)}\r\n`.repeat(100_000)}`
      const small = Array.from({ length: 25 }, (_, n) => `Subject: ${n}\r\n\r\n${n}\r\n`)
      await Promise.all([large, ...small].map((content) => send(content)))
      const arrived = (await opened.received()).slice(before).map(({ content }) => content)
      assert.deepEqual(arrived.sort(), [large, ...small].sort())
    })

    it('says what may pass when it cannot be reached, and goes on afterwards', async () => {
      const before = (await opened.received()).length
      await opened.interrupt()
      await assert.rejects(
        send('Subject: lost\r\n\r\nx\r\n'),
        (error) => isRungError(error, 'MAIL_UNAVAILABLE') && error.cause instanceof Error,
      )
      await opened.restore()
      await send('Subject: back\r\n\r\nx\r\n')
      const subjects = (await opened.received()).slice(before).map(({ content }) => content.split('\r\n', 1)[0])
      assert.deepEqual(subjects, ['Subject: back'])
    })

    it('brings what the policy composes', async () => {
      const mail = createMail({
        transport: opened.transport,
        from: { name: 'Ärzte "Ohne" Grenzen', address: 'shop@example.org' },
        idKeys: keysOf(new Uint8Array(32)),
        inTransaction: () => false,
      }).forModule('shop')
      const message = {
        to: { name: 'Bob Ünal', address: 'bob@example.org' },
        bcc: 'secret@example.org',
        subject: 'Grüße \u{1f600} '.repeat(10).trim(),
        text: `.\nFrom here\n${'lang '.repeat(300)}\nä\u{1f600}`,
        html: html`<p>Grüße, ${'<b>'}</p>`,
        key: 'welcome/7',
      }
      const first = await mail.send(message)
      const arrived = await last()
      assert.equal((await mail.send(message)).messageId, first.messageId)
      assert.deepEqual(arrived.to, ['bob@example.org', 'secret@example.org'])
      assert.doesNotMatch(arrived.content, /secret@/)
      assert.ok(arrived.content.split('\r\n').every((line) => /^[\x20-\x7e\t]{0,998}$/.test(line)))
      const { headers, text, html: body } = readMessage(Buffer.from(arrived.content, 'latin1'))
      assert.equal(headers.get('message-id'), first.messageId)
      assert.equal(headers.get('subject'), message.subject)
      assert.equal(text, message.text)
      assert.equal(body, '<p>Grüße, &lt;b&gt;</p>')
    })
  })
}
