/** Where the keys of an app lie in a cluster of Redis. Pure. */
export const slotCount = 16_384

/** Returns the slot of a hash tag: its CRC-16 (XMODEM), see "Hash tags" in https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/. */
export function slotOf(tag: string): number {
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1
  }
  return crc % slotCount
}

/** Returns the slots of one of so many nodes, divided as `redis-cli --cluster create` does. */
export function slotsOf(index: number, nodes: number): { first: number; last: number } {
  const startOf = (at: number) => Math.round((at * slotCount) / nodes)
  return { first: startOf(index), last: startOf(index + 1) - 1 }
}

/**
 * Returns the hash tag of the keys that a node has. One node has them all. Of several, each has one tag, whose slot is not near the border
 * of the node's slots: other tools round otherwise.
 */
export function tagOf(app: string, index: number, nodes: number): string {
  if (nodes === 1) return app
  const { first, last } = slotsOf(index, nodes)
  const margin = Math.floor((last - first) / 4)
  for (let n = 0; ; n += 1) {
    const slot = slotOf(`${app}:${n}`)
    if (slot >= first + margin && slot <= last - margin) return `${app}:${n}`
  }
}
