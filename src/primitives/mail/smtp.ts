import { openSmtp, type SmtpClient, type SmtpFailure } from '../../engines/smtp/client.ts'
import { RungError } from '../../kernel/errors.ts'
import type { SmtpServer } from '../../topology/urls.ts'
import type { MailTransport } from './contract.ts'

/** Mail through a server. Connects with the first one. */
export function smtpMail(server: SmtpServer): MailTransport {
  let client: Promise<SmtpClient> | undefined

  return {
    async send({ from, to, content }) {
      client ??= openSmtp(server)
      const opened = await client
      return opened.send({ from, to: [...to] }, content).catch((error: SmtpFailure) => {
        throw coded(error)
      })
    },
    async close() {
      const opened = await client
      opened?.close()
    },
  }
}

/** About this mail or this account; anything else is about the connection, which may be another one next time. */
const verdicts = ['EENVELOPE', 'EMESSAGE', 'EAUTH']

/** RFC 5321, 4.2.1: a reply 4xx may pass, 5xx will not. A verdict without a reply is the library's own: a size that the server named. */
function coded(cause: SmtpFailure): RungError {
  const { responseCode, code = '', message } = cause
  const forGood = verdicts.includes(code) && (responseCode === undefined || responseCode >= 500)
  const facts = responseCode === undefined ? {} : { smtp: responseCode }
  if (!forGood) {
    // A 503 is shown to clients; what the server or the system said stays in the log.
    return new RungError('MAIL_UNAVAILABLE', 'The mail cannot be sent at the moment. Try again.', { cause, facts })
  }
  const why = code === 'EAUTH' ? 'user and password, correct RUNG_SMTP_URL' : 'the mail, trying again will not help'
  return new RungError('MAIL_REFUSED', `The mail server refuses ${why} (${message}).`, { cause, facts })
}
