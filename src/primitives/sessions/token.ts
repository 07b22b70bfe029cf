import { createHash, createHmac, createSecretKey } from 'node:crypto'
import { secret } from '../../kernel/random.ts'
import { sameText } from '../../kernel/same-text.ts'

/** `<secret>.<signature>`, HMAC-SHA-256. A token without a valid signature is refused without asking the store. */
const format = /^([\w-]{43})\.([\w-]{43})$/

export interface Tokens {
  fresh(): string
  /** The token's successor. It is the same in every process, so requests that rotate a session at the same time agree. */
  next(token: string): string
  /** The digest by which the store knows the token; `undefined` if its signature is wrong. */
  digest(token: string): Buffer | undefined
}

export function sessionTokens(key: Uint8Array): Tokens {
  const signingKey = createSecretKey(key) // made once: it takes eight times as long as a signature
  const mac = (purpose: string, text: string) => createHmac('sha256', signingKey).update(`${purpose} ${text}`).digest()
  const sign = (body: string) => `${body}.${mac('token', body).toString('base64url')}`

  return {
    fresh: () => sign(secret(32)),
    next: (token) => sign(mac('next', token.slice(0, 43)).toString('base64url')),
    digest(token) {
      const [, body, signature] = format.exec(token) ?? []
      if (!body || !signature) return undefined
      // As text: two bits of its last letter do not count, so the same bytes have other spellings.
      if (!sameText(signature, mac('token', body).toString('base64url'))) return undefined
      return createHash('sha256').update(body).digest()
    },
  }
}
