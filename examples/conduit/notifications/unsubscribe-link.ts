import { createHmac, timingSafeEqual } from 'node:crypto'
import { type Html, html } from 'rung'
import { mailedUrl } from '../public-url.ts'

/** What stands in the mails of one account. It needs no login, and does not expire: mails are read years later. */
export interface UnsubscribeLinks {
  url(accountId: number): string
  /** Whose token it is; `undefined` for a forged one. */
  accountOf(token: string): number | undefined
}

export const unsubscribePath = '/api/notifications/unsubscribe'

export function unsubscribeLinks(keys: () => readonly Uint8Array[]): UnsubscribeLinks {
  const signatureOf = (accountId: string, key: Uint8Array) =>
    createHmac('sha256', key).update(accountId).digest('base64url')
  return {
    url: (accountId) => mailedUrl(`${unsubscribePath}/${accountId}.${signatureOf(String(accountId), keys()[0]!)}`),
    accountOf(token) {
      const [, accountId, signature] = /^([1-9]\d{0,15})\.([\w-]{43})$/.exec(token) ?? []
      if (accountId === undefined || signature === undefined) return undefined
      const isBy = (key: Uint8Array) =>
        timingSafeEqual(Buffer.from(signature), Buffer.from(signatureOf(accountId, key)))
      const right = keys().some(isBy)
      return right ? Number(accountId) : undefined
    },
  }
}

/** A look at the link changes nothing: programs that check mails follow every one. */
export const askPage = (): string =>
  page(html`<h1>No more daily mails?</h1><form method="post"><button>Unsubscribe</button></form>`)

export const donePage = (): string => page(html`<h1>You get no more daily mails.</h1>`)

function page(content: Html): string {
  return `<!doctype html>${html`<html lang="en"><meta charset="utf-8"><title>Conduit</title>${content}</html>`}`
}
