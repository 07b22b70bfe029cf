import { isIPv6 } from 'node:net'

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
