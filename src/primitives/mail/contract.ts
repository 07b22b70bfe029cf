/**
 * What the mail primitive asks of an adapter: to hand on a message that is complete. Addresses, headers, templates, limits
 * and message ids are policy above it, in `mail.ts`.
 *
 * What must hold on every adapter:
 * - once `send` has returned, a crash does not lose the message; when it throws, nobody of `to` gets it, unless the
 *   connection broke while the answer was on its way: then it may arrive again under the same Message-ID;
 * - the content arrives byte for byte, `to` is who gets it and stands in no header;
 * - `MAIL_UNAVAILABLE` is a failure that may pass (no connection, a 4xx reply, a full disk): a job tries again.
 *   `MAIL_REFUSED` will not pass (a 5xx reply). Both keep the driver's error as their cause;
 * - no error and no log line holds a password.
 */
export interface MailTransport {
  /** Gives those of `to` who were refused while others were accepted. */
  send(mail: ComposedMail): Promise<readonly string[]>
  close(): Promise<void>
}

export interface ComposedMail {
  /** Where a bounce goes. */
  readonly from: string
  /** At least one. */
  readonly to: readonly string[]
  /** RFC 5322: ASCII in lines of at most 998, each with CRLF at its end. */
  readonly content: Uint8Array
}
