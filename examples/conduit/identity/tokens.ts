import { jwtVerify, SignJWT } from 'jose'

const algorithm = 'HS256'
const lifetimeSeconds = 60 * 24 * 3600
/** Checking a signature costs more than a query; a client sends the same token again and again. */
const rememberedMax = 10_000

interface Known {
  accountId: number
  /** Seconds since the epoch. */
  expiresAt: number
}

export interface Tokens {
  issue(accountId: number): Promise<string>
  /** The account that a token speaks for; `undefined` for a forged, expired or garbled one. */
  verify(token: string): Promise<number | undefined>
}

/** Signed tokens, one key and one algorithm. */
export function createTokens(key: Uint8Array, now: () => number = () => Math.floor(Date.now() / 1000)): Tokens {
  const remembered = new Map<string, Known>()

  return {
    issue(accountId) {
      const issuedAt = now()
      return new SignJWT()
        .setProtectedHeader({ alg: algorithm, typ: 'JWT' })
        .setSubject(String(accountId))
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + lifetimeSeconds)
        .sign(key)
    },
    async verify(token) {
      const known = remembered.get(token)
      if (known) return known.expiresAt > now() ? known.accountId : undefined
      const { payload } = await jwtVerify(token, key, {
        algorithms: [algorithm],
        requiredClaims: ['sub', 'exp'],
      }).catch(() => ({ payload: undefined }))
      const accountId = Number(payload?.sub)
      if (!payload || !Number.isSafeInteger(accountId) || accountId < 1) return undefined
      if (remembered.size >= rememberedMax) remembered.delete(remembered.keys().next().value!) // the oldest
      remembered.set(token, { accountId, expiresAt: payload.exp! })
      return accountId
    },
  }
}
