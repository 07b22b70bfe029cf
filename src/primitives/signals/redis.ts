import { type RedisClient, subscribeRedis } from '../../engines/redis/client.ts'
import type { SignalLine } from './contract.ts'

/** Redis' PUBLISH and SUBSCRIBE, on one channel of the app. */
export function redisLine(
  { client, url, app }: { client: RedisClient; url: string; app: string },
  failed: (error: unknown) => void,
): SignalLine {
  const channel = `{${app}}:signals`
  let subscriber: Promise<{ close(): void }> | undefined
  return {
    pauseMs: 2,
    bytesMax: 64_000,
    async publish(message) {
      await client.call('PUBLISH', channel, message)
    },
    subscribe(heard, up) {
      subscriber = subscribeRedis({
        url,
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
