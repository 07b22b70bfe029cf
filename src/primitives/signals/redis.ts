import { subscribeRedis } from '../../engines/redis/client.ts'
import type { RedisNodes } from '../../engines/redis/nodes.ts'
import type { SignalLine } from './contract.ts'

/**
 * Redis' PUBLISH and SUBSCRIBE, on one channel of the app. The nodes of a cluster pass messages on to each other: it is enough to publish at
 * one, and to listen at one.
 */
export function redisLine(
  { nodes, urls, app }: { nodes: RedisNodes; urls: readonly string[]; app: string },
  failed: (error: unknown) => void,
): SignalLine {
  const channel = `{${app}}:signals`
  let speaking = nodes[0]
  let subscriber: Promise<{ close(): void }> | undefined
  return {
    pauseMs: 2,
    bytesMax: 64_000,
    async publish(message) {
      // Not back to a node that has just returned: it may not have found the others yet.
      if (!speaking.client.isUp) speaking = nodes.find((node) => node.client.isUp) ?? speaking
      await speaking.client.call('PUBLISH', channel, message)
    },
    subscribe(heard, up) {
      subscriber = subscribeRedis({
        url: urls[0]!,
        cluster: { others: urls.slice(1) },
        channels: [channel],
        onMessage: (_channel, message) => heard(message.toString()),
        onUp: up,
      })
      subscriber.catch(failed)
    },
    async close() {
      await subscriber?.then((one) => one.close()).catch(() => {})
    },
  }
}
