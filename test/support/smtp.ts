import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import type { Inbox } from '../../src/primitives/mail/inbox.ts'

/** What a mail server or an inbox was given. */
export interface Received {
  from: string
  to: string[]
  content: string
}

export interface TestSmtp {
  readonly port: number
  readonly received: Received[]
  /** Recipients that it refuses, by their address. */
  readonly refusals: Map<string, number>
  /** Its answer to the content of a message, where that is not "accepted". */
  verdict: number | undefined
  close(): Promise<void>
  /** Again, on the same port. */
  open(): Promise<void>
}

/** A real server in this process, on a free port. */
export async function startSmtp(options: SMTPServerOptions = {}): Promise<TestSmtp> {
  let server: SMTPServer | undefined
  let port = 0
  const received: Received[] = []
  const refusals = new Map<string, number>()
  const failure = (code: number) => Object.assign(new Error('not now or never'), { responseCode: code })
  const test: TestSmtp = {
    get port() {
      return port
    },
    received,
    refusals,
    verdict: undefined,
    async open() {
      server = new SMTPServer({ ...behaviour, ...options })
      server.on('error', () => {}) // a client that breaks off is none of ours
      server.listen(port, '127.0.0.1')
      await once(server.server, 'listening')
      port = (server.server.address() as AddressInfo).port
    },
    async close() {
      await new Promise<void>((resolve) => server!.close(() => resolve()))
    },
  }
  const behaviour: SMTPServerOptions = {
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    closeTimeout: 1,
    onRcptTo({ address }, _session, done) {
      const code = refusals.get(address)
      done(code === undefined ? undefined : failure(code))
    },
    onData(stream, { envelope }, done) {
      void buffer(stream).then((bytes) => {
        if (test.verdict !== undefined) return done(failure(test.verdict))
        const from = envelope.mailFrom === false ? '' : (envelope.mailFrom?.address ?? '')
        received.push({ from, to: envelope.rcptTo.map(({ address }) => address), content: bytes.toString('latin1') })
        done()
      })
    },
  }
  await test.open()
  return test
}

/** The same of mail that was written, in the order in which it was. */
export async function receivedBy(inbox: Inbox): Promise<Received[]> {
  const ids = (await inbox.list(1000)).reverse()
  const texts = await Promise.all(ids.map(async (id) => Buffer.from((await inbox.read(id))!).toString('latin1')))
  return texts.map((text) => {
    const envelope = /^X-Envelope-From: <([^>]*)>\r\nX-Envelope-To: <([^\r]*(?:,\r\n [^\r]*)*)>\r\n(.*)$/s
    const [, from, to, content] = envelope.exec(text)!
    return { from: from!, to: to!.split('>,\r\n <'), content: content! }
  })
}
