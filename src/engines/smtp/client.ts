import type { Transporter } from 'nodemailer'
import type { SmtpServer } from '../../topology/urls.ts'

/** The only importer of `nodemailer`, which is loaded with the first mail. It composes messages and sends them to a server. */
export interface MessageParts {
  from: Mailbox
  to: readonly Mailbox[]
  cc: readonly Mailbox[]
  /** Recipients that are in no header. */
  bcc: readonly Mailbox[]
  replyTo: Mailbox | undefined
  messageId: string
  subject: string
  text: string
  html: string | undefined
  /** Values of one line each. */
  headers: Readonly<Record<string, string>>
}

interface Mailbox {
  name: string
  address: string
}

/** Returns a message in the form of RFC 5322: ASCII in short lines that end with CRLF. */
export async function composeMessage({ headers, ...parts }: MessageParts): Promise<Uint8Array> {
  const { default: MailComposer } = await import('nodemailer/lib/mail-composer')
  const composer = new MailComposer({
    ...parts,
    to: [...parts.to],
    cc: [...parts.cc],
    bcc: [...parts.bcc],
    headers: Object.entries(headers).map(([key, value]) => ({ key, value: unfolded(value) })) as never,
    newline: '\r\n',
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const content = await composer.compile().build()
  return content.subarray(-2).toString() === '\r\n' ? content : Buffer.concat([content, Buffer.from('\r\n')])
}

/** A URL must not be broken into lines. */
function unfolded(value: string): string | object {
  return value.startsWith('<') ? { prepared: true, foldLines: false, value } : value
}

export interface SmtpClient {
  /** Returns the recipients that were refused while others were accepted. @throws SmtpFailure */
  send(envelope: { from: string; to: string[] }, content: Uint8Array): Promise<string[]>
  close(): void
}

/** The library's errors. */
export interface SmtpFailure extends Error {
  /** `EAUTH`, `ECONNECTION`, `EENVELOPE` … */
  code?: string
  /** Code of the server's reply, 400 to 599; of several replies, one that may pass. */
  responseCode?: number
  response?: string
}

const connectionsMax = 5
const connectTimeoutMs = 10_000
/** Longest pause between two bytes. A server may need it to check a message. */
const idleTimeoutMs = 30_000

export async function openSmtp(server: SmtpServer): Promise<SmtpClient> {
  const { createTransport } = await import('nodemailer')
  const { host, port, secure, auth } = server
  const transporter = createTransport({
    host,
    port,
    secure,
    ...(auth && { auth }),
    // A password is never sent over a network unencrypted.
    requireTLS: auth !== undefined && !isLoopback(host),
    pool: true,
    maxConnections: connectionsMax,
    maxRequeues: 0, // the caller decides whether it is sent again
    connectionTimeout: connectTimeoutMs,
    greetingTimeout: connectTimeoutMs,
    socketTimeout: idleTimeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  }) as Transporter
  return {
    async send(envelope, content) {
      const { rejected } = (await transporter.sendMail({
        envelope: { ...envelope, size: content.length }, // so that no larger mail than the server allows is sent
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
