import { systemClock } from '../kernel/clock.ts'
import { type Keys, keyOfMac, macOf } from '../kernel/keys.ts'

/** The header with the time and the signature of a call: `1764559000000.9bX…`. */
export const signatureHeader = 'rung-call'

/** Clocks of two machines may differ by this much, and a call may be under way for so long, in ms. */
const ageMsMax = 60_000

/** Signs a call with a key of the fleet, so that only its own processes can call each other. */
export function signCall(keys: Keys, path: string, body: string): string {
  const at = String(systemClock.now())
  return `${at}.${macOf(keys.signing, textOf(at, path, body))}`
}

/** Whether a process of the fleet has signed this call a moment ago. */
export function isSignedCall(keys: Keys, path: string, body: string, signature: unknown): boolean {
  const match = typeof signature === 'string' ? /^(\d{1,16})\.([\w-]{43})$/.exec(signature) : null
  if (!match) return false
  const [, at, mac] = match
  if (Math.abs(systemClock.now() - Number(at)) > ageMsMax) return false
  return keyOfMac(keys, textOf(at!, path, body), mac!) !== undefined
}

/** A path has no line break, so different calls have different texts. */
function textOf(at: string, path: string, body: string): string {
  return `${at}\n${path}\n${body}`
}
