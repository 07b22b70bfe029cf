import { domainToASCII } from 'node:url'

/** `ann@example.org`, also with a name. */
export type Address = string | { name: string; address: string }

const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
const local = new RegExp(`^${atom}(\\.${atom})*$`)
const label = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
const domain = new RegExp(`^${label}(\\.${label})*$`)
/** Control characters. CR and LF would begin another header. */
export const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/

export interface Mailbox {
  name: string
  /** The form for servers, with the domain in ASCII. */
  address: string
}

/** Returns an address that is valid in headers and envelopes (RFC 5321, 4.5.3.1), or `undefined`. */
export function parseAddress(given: Address): Mailbox | undefined {
  const { name, address } = typeof given === 'string' ? { name: '', address: given } : given
  if (typeof address !== 'string' || typeof name !== 'string') return undefined
  if (control.test(name) || name.length > 200 || !name.isWellFormed()) return undefined
  const at = address.lastIndexOf('@')
  const host = address.slice(at + 1)
  const ascii = /^[\x00-\x7f]*$/.test(host) ? host : domainToASCII(host)
  const user = address.slice(0, Math.max(0, at))
  if (!local.test(user) || user.length > 64 || !domain.test(ascii) || ascii.length > 253) return undefined
  return { name, address: `${user}@${ascii}` }
}

/** Parses a setting: `Name <ann@example.org>`, or an address alone. */
export function parseMailbox(text: string): Mailbox | undefined {
  const named = /^([^<>"]*)<([^<>]+)>$/.exec(text.trim())
  return named ? parseAddress({ name: named[1]!.trim(), address: named[2]! }) : parseAddress(text.trim())
}

export function domainOf({ address }: Mailbox): string {
  return address.slice(address.lastIndexOf('@') + 1)
}
