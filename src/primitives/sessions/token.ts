import { createHash, type KeyObject } from 'node:crypto'
import { type Keys, keyOfMac, macOf } from '../../kernel/keys.ts'
import { secret } from '../../kernel/random.ts'

/** `<secret>.<signature>`, HMAC-SHA-256. A token without a valid signature is refused without asking the store. */
const format = /^([\w-]{43})\.([\w-]{43})$/

export interface Tokens {
  fresh(): string
  /** The token's successor. It is the same in every process, so requests that rotate a session at the same time agree. */
  next(token: string): string
  /** The digest by which the store knows the token; `undefined` if its signature is wrong. */
  digest(token: string): Buffer | undefined
}

export function sessionTokens(keys: Keys): Tokens {
  const sign = (body: string) => `${body}.${macOf(keys.signing, `token ${body}`)}`

  function opened(token: string): { body: string; key: KeyObject } | undefined {
    const [, body, signature] = format.exec(token) ?? []
    const key = body && signature ? keyOfMac(keys, `token ${body}`, signature) : undefined
    return key && { body: body!, key }
  }

  return {
    fresh: () => sign(secret(32)),
    next(token) {
      const { body, key } = opened(token)!
      // From the key that signed the token, not from the one that signs now: while the root is replaced, processes sign with different ones.
      return sign(macOf(key, `next ${body}`))
    },
    digest(token) {
      const found = opened(token)
      return found && createHash('sha256').update(found.body).digest()
    },
  }
}
