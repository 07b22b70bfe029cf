import { openSmtp, type SmtpClient, type SmtpFailure } from '../../engines/smtp/client.ts'
import { RungError } from '../../kernel/errors.ts'
import type { SmtpServer } from '../../topology/urls.ts'
import type { MailTransport } from './contract.ts'

/** Sends mail through a server. It connects with the first mail. */
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

/** Errors about this mail or this account. Others are about the connection, and may pass. */
const verdicts = ['EENVELOPE', 'EMESSAGE', 'EAUTH']

/** A 4xx reply may pass, a 5xx will not (RFC 5321, 4.2.1). A verdict without a reply is the library's own, such as the server's size limit. */
function coded(cause: SmtpFailure): RungError {
  const { responseCode, code = '', message } = cause
  const isPermanent = verdicts.includes(code) && (responseCode === undefined || responseCode >= 500)
  const facts = responseCode === undefined ? {} : { smtp: responseCode }
  if (!isPermanent) {
    // Clients see the text of a 503, so only the log has the server's or the system's message.
    return new RungError('MAIL_UNAVAILABLE', 'The mail cannot be sent now. Try again later.', { cause, facts })
  }
  const refusal = code === 'EAUTH' ? 'user and password. Correct RUNG_SMTP_URL' : 'the mail. Do not send it again'
  return new RungError('MAIL_REFUSED', `The mail server refuses ${refusal} (${message}).`, { cause, facts })
}
