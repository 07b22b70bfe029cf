import { isIPv6 } from 'node:net'
import { RungError } from '../../kernel/errors.ts'
import { networks } from '../../topology/setting-types.ts'

/**
 * Returns the network under which an address is counted. A client with one IPv6 address has the other 2^64 of its network too (RFC 6177),
 * so the /64 is counted. An IPv4 address in IPv6 form is that IPv4 address.
 */
export function networkOf(address: string | undefined): string {
  if (address === undefined || address === '') return 'local' // a Unix socket
  const plain = address.split('%', 1)[0]!
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1]
  if (mapped) return mapped
  return isIPv6(plain) ? `${groupsOf(plain).slice(0, 4).join(':')}::/64` : plain
}

function groupsOf(address: string): string[] {
  const [head = '', tail] = address.toLowerCase().split('::', 2)
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => group.replace(/^0+(?=.)/, '')))
  const [before, after] = [groups(head), groups(tail ?? '')]
  const missing = tail === undefined ? 0 : 8 - before.length - after.length
  return [...before, ...Array(Math.max(0, missing)).fill('0'), ...after]
}

/** Words that Fastify has for networks, and engines in front have not. */
const namedNetworks: Readonly<Record<string, readonly string[]>> = {
  loopback: ['127.0.0.0/8', '::1/128'],
  linklocal: ['169.254.0.0/16', 'fe80::/10'],
  uniquelocal: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
}

/**
 * Returns the networks of the proxies that an app trusts. Refuses Fastify's other forms: `true` trusts every client, and a number whoever
 * is that many hops away.
 * @throws APP_INVALID
 */
export function trustedNetworks(addresses: readonly string[] = []): readonly string[] {
  const all = Array.isArray(addresses) ? addresses.flatMap((one) => namedNetworks[one] ?? [one]) : undefined
  if (all && networks.accepts(all)) return all
  throw new RungError(
    'APP_INVALID',
    'http.trustProxy must be a list of the addresses or networks of your proxies. Write for example: 10.0.0.0/8, loopback',
  )
}
