import { defineScript } from '../../engines/redis/client.ts'
import type { RedisNode } from '../../engines/redis/nodes.ts'
import { ownText } from '../../kernel/own-text.ts'
import { type Limiter, type SlotReceipt, slotMsOf } from './contract.ts'

const takeScript = defineScript(ownText(import.meta.url, './take.lua'))
const giveBackScript = defineScript(ownText(import.meta.url, './give-back.lua'))

/**
 * Counts in one Redis, or on one node of several: a hash for each key. All its keys have one hash tag, so the quotas of a request are one
 * script, one round trip and one slot of a cluster. The arithmetic of the window is that of `memory.ts`, by the server's clock. Redis forgets by itself what
 * has left the window. It does not tell what it loses: see `local-share.ts`.
 */
export function redisLimiter({ client, root }: RedisNode): Limiter<SlotReceipt> {
  const keysOf = (all: readonly { key: string }[]) => all.map(({ key }) => `${root}:limits:${key}`)
  return {
    async take(quotas) {
      if (quotas.length === 0) return []
      const args = quotas.flatMap(({ max, windowMs }) => [max, windowMs, slotMsOf(windowMs)])
      const rows = (await client.script(takeScript, keysOf(quotas), args)) as [number, number, number, number][]
      return rows.map(([admitted, used, nextMs, slot], n) => ({
        admitted: admitted === 1,
        used,
        nextMs,
        receipt: admitted === 1 ? { key: quotas[n]!.key, slot } : undefined,
      }))
    },
    async giveBack(receipts) {
      if (receipts.length === 0) return
      await client.script(
        giveBackScript,
        keysOf(receipts),
        receipts.map(({ slot }) => slot),
      )
    },
    prune: async () => 0,
  }
}
