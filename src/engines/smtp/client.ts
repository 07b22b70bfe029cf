import type { Transporter } from 'nodemailer'
import type { SmtpServer } from '../../topology/urls.ts'

/** The only door to `nodemailer`: composing a message, and handing it to a server. Loaded with the first mail. */
export interface MessageParts {
  from: Mailbox
  to: readonly Mailbox[]
  cc: readonly Mailbox[]
  /** In no header. */
  bcc: readonly Mailbox[]
  replyTo: Mailbox | undefined
  messageId: string
  subject: string
  text: string
  html: string | undefined
  /** Of one line each. */
  headers: Readonly<Record<string, string>>
}

interface Mailbox {
  name: string
  address: string
}

/** As RFC 5322 wants it: ASCII, short lines, CRLF. */
export async function composeMessage({ headers, ...parts }: MessageParts): Promise<Uint8Array> {
  const { default: MailComposer } = await import('nodemailer/lib/mail-composer')
  const composer = new MailComposer({
    ...parts,
    to: [...parts.to],
    cc: [...parts.cc],
    bcc: [...parts.bcc],
    // An URL must not be broken where a line ends.
    headers: Object.entries(headers).map(([key, value]) => ({ key, value: asWritten(value) })) as never,
    newline: '\r\n',
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const content = await composer.compile().build()
  return content.subarray(-2).toString() === '\r\n' ? content : Buffer.concat([content, Buffer.from('\r\n')])
}

function asWritten(value: string): string | object {
  return value.startsWith('<') ? { prepared: true, foldLines: false, value } : value
}

export interface SmtpClient {
  /** Resolves with those refused while others were accepted; rejects with an `SmtpFailure`. */
  send(envelope: { from: string; to: string[] }, content: Uint8Array): Promise<string[]>
  close(): void
}

/** What an error of the library has. */
export interface SmtpFailure extends Error {
  /** `EAUTH`, `ECONNECTION`, `EENVELOPE` … */
  code?: string
  /** Of the server's reply, 400 to 599; of several, one that may pass. */
  responseCode?: number
  response?: string
}

const connectionsMax = 5
const connectTimeoutMs = 10_000
/** Between two bytes; a server may think so long about a message. */
const idleTimeoutMs = 30_000

export async function openSmtp(server: SmtpServer): Promise<SmtpClient> {
  const { createTransport } = await import('nodemailer')
  const { host, port, secure, auth } = server
  const transporter = createTransport({
    host,
    port,
    secure,
    ...(auth && { auth }),
    // A password never crosses a network in the clear.
    requireTLS: auth !== undefined && !isLoopback(host),
    pool: true,
    maxConnections: connectionsMax,
    maxRequeues: 0, // whether it is sent again is the caller's decision
    connectionTimeout: connectTimeoutMs,
    greetingTimeout: connectTimeoutMs,
    socketTimeout: idleTimeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  }) as Transporter
  return {
    async send(envelope, content) {
      const { rejected } = (await transporter.sendMail({
        envelope: { ...envelope, size: content.length }, // a server that names its limit is not sent more
        raw: Buffer.from(content),
      })) as Rejected
      return (rejected ?? []).map((one) => (typeof one === 'string' ? one : one.address))
    },
    close: () => transporter.close(),
  }
}

interface Rejected {
  rejected?: (string | Mailbox)[]
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}
