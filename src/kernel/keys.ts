import { createHmac, createSecretKey, type KeyObject } from 'node:crypto'
import { sameText } from './same-text.ts'

/** The keys of one purpose. Sign with one; accept what any of them has signed, so that the root of all keys can be replaced. */
export interface Keys {
  readonly signing: KeyObject
  /** Those that are accepted now, `signing` first. */
  accepted(): readonly KeyObject[]
}

/** One key, for ever. */
export function keysOf(bytes: Uint8Array): Keys {
  const signing = createSecretKey(bytes) // made once: it takes eight times as long as a signature
  const accepted = [signing]
  return { signing, accepted: () => accepted }
}

/** HMAC-SHA-256 of a text, in base64url. */
export function macOf(key: KeyObject, text: string): string {
  return createHmac('sha256', key).update(text).digest('base64url')
}

/**
 * Returns the accepted key that has signed a text, or `undefined`. Signatures are compared as texts: two bits of the last letter do not
 * count, so the same bytes have other spellings.
 */
export function keyOfMac(keys: Keys, text: string, mac: string): KeyObject | undefined {
  return keys.accepted().find((key) => sameText(mac, macOf(key, text)))
}
