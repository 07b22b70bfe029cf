/**
 * What the mail primitive asks of an adapter: to deliver complete messages. Addresses, headers, templates, limits and message ids are
 * policy above it, in `mail.ts`.
 *
 * What must hold on every adapter:
 * - once `send` has returned, a crash does not lose the message. If it throws, nobody in `to` gets the message, unless the connection broke
 *   before the answer arrived: then it may arrive again with the same Message-ID;
 * - the content arrives byte for byte. `to` names the recipients and is in no header;
 * - `MAIL_UNAVAILABLE` is a temporary failure (no connection, a 4xx reply, a full disk), and a job tries again. `MAIL_REFUSED` is permanent
 *   (a 5xx reply). Both have the driver's error as their cause;
 * - no error and no log line contains a password.
 */
export interface MailTransport {
  /** Returns the recipients that were refused while others were accepted. */
  send(mail: ComposedMail): Promise<readonly string[]>
  close(): Promise<void>
}

export interface ComposedMail {
  /** The address for bounces. */
  readonly from: string
  /** At least one. */
  readonly to: readonly string[]
  /** ASCII in lines of at most 998 characters, each ending with CRLF (RFC 5322). */
  readonly content: Uint8Array
}
