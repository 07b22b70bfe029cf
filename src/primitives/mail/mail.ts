import { createHmac } from 'node:crypto'
import { composeMessage, type MessageParts } from '../../engines/smtp/client.ts'
import { RungError } from '../../kernel/errors.ts'
import { Html } from '../../kernel/html.ts'
import type { Keys } from '../../kernel/keys.ts'
import { type Address, control, domainOf, type Mailbox, parseAddress } from '../../kernel/mail-address.ts'
import { uuid } from '../../kernel/random.ts'
import { formatBytes, toBytes } from '../../kernel/units.ts'
import type { MailTransport } from './contract.ts'

export interface Mail {
  /**
   * Sends one mail. It must not be called inside `data.write`, which could not take the mail back. `MAIL_UNAVAILABLE` is a temporary
   * failure, `MAIL_REFUSED` a permanent one.
   * @example await mail.send({ to: user.email, ...welcome(user), key: `welcome/${user.id}` })
   * @throws MAIL_INVALID, MAIL_TOO_LARGE, MAIL_IN_TRANSACTION, MAIL_UNAVAILABLE, MAIL_REFUSED
   */
  send(message: MailMessage): Promise<SentMail>
}

/** The result of a template, which is a plain function. */
export interface MailContent {
  subject: string
  /** For readers without HTML. */
  text: string
  html?: Html
}

export interface MailMessage extends MailContent {
  /** At most 100 together with `cc` and `bcc`. */
  to: Address | readonly Address[]
  cc?: Address | readonly Address[]
  /** Recipients that are in no header. */
  bcc?: Address | readonly Address[]
  /** Default: `RUNG_MAIL_FROM`. */
  from?: Address
  replyTo?: Address
  /**
   * Identifies the mail within this module, such as `welcome/7`. Mails with the same key have the same Message-ID, by which a recipient's
   * server can drop the second mail of a job that ran twice.
   */
  key?: string
  /** An https URL that unsubscribes at once when it gets a POST (RFC 8058). Mail programs show a button for it. */
  unsubscribe?: string
  /** Further headers, such as `In-Reply-To`. */
  headers?: Readonly<Record<string, string>>
}

export interface SentMail {
  readonly messageId: string
  /** The recipients that the server refused while it accepted others. */
  readonly refused: readonly string[]
}

export interface MailSettings {
  transport: MailTransport
  from: Mailbox
  /** Makes message ids, from which the mail's key cannot be guessed. */
  idKeys: Keys
  inTransaction(): boolean
}

export interface MailRoot {
  forModule(module: string): Mail
}

/** A server need not accept more (RFC 5321, 4.5.3.1.8). */
const recipientsMax = 100
/** Large providers accept 20 to 25 MiB. */
const sizeMaxBytes = toBytes('10MiB')
const subjectCharsMax = 255
const headerCharsMax = 900

export function createMail({ transport, from, idKeys, inTransaction }: MailSettings): MailRoot {
  function messageId(module: string, key: string | undefined, sender: Mailbox): string {
    const id =
      key === undefined
        ? uuid()
        : createHmac('sha256', idKeys.signing)
            .update(JSON.stringify([module, key]))
            .digest('hex')
    return `<${id.slice(0, 36)}@${domainOf(sender)}>`
  }
  return {
    forModule: (module) => ({
      async send(message) {
        if (inTransaction()) {
          throw new RungError(
            'MAIL_IN_TRANSACTION',
            'mail.send was called inside data.write, which cannot take a mail back. Send it after the commit.',
          )
        }
        const sender = message.from === undefined ? from : mailbox(message.from, 'from')
        const id = messageId(module, message.key, sender)
        const parts = partsOf(message, sender, id)
        const to = [...new Set([...parts.to, ...parts.cc, ...parts.bcc].map(({ address }) => address))]
        if (to.length === 0 || to.length > recipientsMax) {
          throw invalid(`The mail has ${to.length} recipients. It must have 1 to ${recipientsMax}; send several mails.`)
        }
        const content = await composeMessage(parts)
        if (content.length > sizeMaxBytes) {
          const [is, allowed] = [formatBytes(content.length), formatBytes(sizeMaxBytes)]
          throw new RungError(
            'MAIL_TOO_LARGE',
            `The mail has ${is}, more than ${allowed}. Put large content into files and link to them.`,
          )
        }
        return { messageId: id, refused: await transport.send({ from: sender.address, to, content }) }
      },
    }),
  }
}

function partsOf(message: MailMessage, from: Mailbox, messageId: string): MessageParts {
  const { subject, text, html } = message
  if (typeof subject !== 'string' || control.test(subject) || subject.length > subjectCharsMax) {
    throw invalid(`The subject is not one line of at most ${subjectCharsMax} characters. Shorten it.`)
  }
  if (typeof text !== 'string' || text.trim() === '') throw invalid('The mail has no text. Add one, also beside HTML.')
  if (html !== undefined && !(html instanceof Html)) {
    throw invalid('The HTML of the mail is not a result of html`…`. Use that tag, which escapes values.')
  }
  return {
    from,
    to: mailboxes(message.to, 'to'),
    cc: mailboxes(message.cc, 'cc'),
    bcc: mailboxes(message.bcc, 'bcc'),
    replyTo: message.replyTo === undefined ? undefined : mailbox(message.replyTo, 'replyTo'),
    messageId,
    subject,
    text,
    html: html && String(html),
    headers: { ...checkedHeaders(message.headers ?? {}), ...unsubscribeHeaders(message.unsubscribe) },
  }
}

function mailboxes(given: Address | readonly Address[] | undefined, field: string): Mailbox[] {
  if (given === undefined) return []
  return ([] as Address[]).concat(given as Address | Address[]).map((one) => mailbox(one, field))
}

function mailbox(given: Address, field: string): Mailbox {
  const found = parseAddress(given)
  if (found) return found
  const shown = JSON.stringify(given).slice(0, 100)
  throw invalid(`${shown} in "${field}" is not one address. Write 'ann@example.org' or { name, address }.`)
}

/** Headers that have a field of their own, that the transport sets, or that would change the body's meaning. */
const reserved =
  /^(from|sender|reply-to|to|cc|bcc|subject|message-id|date|mime-version|content-.*|list-unsubscribe.*|received|return-path|resent-.*|dkim-.*|arc-.*|x-envelope-.*)$/i

function checkedHeaders(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(headers)) {
    if (!/^[A-Za-z][A-Za-z0-9-]{0,63}$/.test(name)) throw invalid(`${JSON.stringify(name)} is not a header name.`)
    if (reserved.test(name))
      throw invalid(`The header ${name} cannot be set. Rung sets it, or a field of the mail does.`)
    if (typeof value !== 'string' || control.test(value) || value.length > headerCharsMax) {
      throw invalid(`The header ${name} is not one line of at most ${headerCharsMax} characters. Shorten it.`)
    }
  }
  return headers
}

function unsubscribeHeaders(url: string | undefined): Record<string, string> {
  if (url === undefined) return {}
  const parsed = URL.parse(url)
  if (parsed?.protocol !== 'https:' || parsed.href.length > headerCharsMax) {
    throw invalid('"unsubscribe" is not an https URL. Write one that unsubscribes at once on a POST (RFC 8058).')
  }
  return { 'List-Unsubscribe': `<${parsed.href}>`, 'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click' }
}

function invalid(message: string): RungError {
  return new RungError('MAIL_INVALID', message)
}
