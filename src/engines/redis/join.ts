import { sleep, systemClock } from '../../kernel/clock.ts'
import { once, type RedisClient } from './client.ts'
import { redisUrl } from './recipe.ts'

/** The ports of a node of a cluster on this machine. Nodes talk to each other through the bus. */
export interface ClusterPorts {
  readonly port: number
  readonly busPort: number
}

export interface Joining {
  slots: { first: number; last: number }
  others: readonly ClusterPorts[]
  /** Of all nodes. */
  password: string
}

const lookEveryMs = 50
const timeoutMs = 500

/**
 * One step of a node that has just started, and is empty, into its cluster; may be repeated. It takes its slots, if it does not have just
 * them from before, and meets the others, which may have other ports than before or be down.
 * @returns whether it serves its slots, which a node does 2 s after its start
 */
export async function join(url: string, { slots, others, password }: Joining): Promise<boolean> {
  const isServing = await once({ url, commandTimeoutMs: timeoutMs }, async (call) => {
    const known = await cluster(call, 'NODES')
    if (!new RegExp(` connected ${slots.first}-${slots.last}$`, 'm').test(ownLine(known))) {
      await cluster(call, 'RESET', 'HARD')
      // What the others know of an earlier node with these slots is older than this.
      await cluster(call, 'SET-CONFIG-EPOCH', systemClock.now())
      await cluster(call, 'ADDSLOTSRANGE', slots.first, slots.last)
    }
    for (const { port, busPort } of others) {
      const isKnown = new RegExp(` 127\\.0\\.0\\.1:${port}@${busPort}\\b`).test(known)
      if (!isKnown) await cluster(call, 'MEET', '127.0.0.1', port, busPort)
    }
    const isOk = (await cluster(call, 'INFO')).includes('cluster_state:ok')
    await (isOk ? forgetGone(call) : sleep(lookEveryMs))
    return isOk
  })
  if (!isServing) return false
  // Those that are down do so when they start.
  const urls = others.map(({ port }) => redisUrl({ listen: { port }, password }))
  await Promise.all(urls.map((other) => once({ url: other, commandTimeoutMs: timeoutMs }, forgetGone).catch(() => {})))
  return true
}

/** A node that has lost its folder is another one at the same address. Until the earlier one is forgotten, its slots seem to be taken. */
async function forgetGone(call: RedisClient['call']): Promise<void> {
  const gone = (await cluster(call, 'NODES')).matchAll(/^(\w+) :0@0\b.*\bnoaddr\b/gm)
  for (const [, id] of gone) await cluster(call, 'FORGET', id!)
}

async function cluster(call: RedisClient['call'], ...words: (string | number)[]): Promise<string> {
  return String(await call('CLUSTER', ...words))
}

function ownLine(nodes: string): string {
  return nodes.split('\n').find((line) => line.includes('myself')) ?? ''
}
