import { jwtVerify, SignJWT } from 'jose'

const algorithm = 'HS256'
const lifetimeSeconds = 60 * 24 * 3600
/** Checking a signature costs more than a query; a client sends the same token again and again. */
const rememberedMax = 10_000

/** What a token says. */
export interface Token {
  accountId: number
  /** Of the account's tokens: those of an earlier one are no longer good. */
  generation: number
  /** When its owner showed the password, in seconds since the epoch. A token that replaces another keeps it. */
  signedInAt: number
}

export interface Tokens {
  /** `signedInAt`: now, unless it replaces another token. */
  issue(token: Omit<Token, 'signedInAt'> & Partial<Token>): Promise<string>
  /** `undefined` for a forged, expired or garbled one. */
  verify(token: string): Promise<Token | undefined>
}

export const secondsNow = () => Math.floor(Date.now() / 1000)

/** For this long after signing in nobody is asked for the password again. The specification of Conduit has no place for it. */
const freshSeconds = 15 * 60
export const isFresh = (signedInAt: number) => secondsNow() - signedInAt < freshSeconds

/** Two bits of the last letter of a signature do not count, so it has other spellings, each of which would be another token. */
function isCanonical(token: string): boolean {
  const signature = token.slice(token.lastIndexOf('.') + 1)
  return Buffer.from(signature, 'base64url').toString('base64url') === signature
}

/** Signed tokens, one algorithm. They are signed with the first of the keys, and those of any of them are good. */
export function createTokens(keys: () => readonly Uint8Array[], now: () => number = secondsNow): Tokens {
  // rung: one process is enough, because what a signed token says never changes
  const remembered = new Map<string, Token & { expiresAt: number }>()

  return {
    issue({ accountId, generation, signedInAt }) {
      const issuedAt = now()
      return new SignJWT({ gen: generation, auth_time: signedInAt ?? issuedAt })
        .setProtectedHeader({ alg: algorithm, typ: 'JWT' })
        .setSubject(String(accountId))
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + lifetimeSeconds)
        .sign(keys()[0]!)
    },
    async verify(token) {
      const known = remembered.get(token)
      if (known) return known.expiresAt > now() ? known : undefined
      if (!isCanonical(token)) return undefined
      const rules = { algorithms: [algorithm], requiredClaims: ['sub', 'exp'] }
      const payloads = keys().map((key) => jwtVerify(token, key, rules).then((good) => good.payload))
      const payload = await Promise.any(payloads).catch(() => undefined)
      const accountId = Number(payload?.sub)
      if (!payload || !Number.isSafeInteger(accountId) || accountId < 1) return undefined
      if (remembered.size >= rememberedMax) remembered.delete(remembered.keys().next().value!) // the oldest
      const [generation, signedInAt] = [Number(payload.gen ?? 0), Number(payload.auth_time ?? payload.iat ?? 0)]
      const found = { accountId, generation, signedInAt, expiresAt: payload.exp! }
      remembered.set(token, found)
      return found
    },
  }
}
