import { type RedisClient, subscribeRedis } from '../../engines/redis/client.ts'
import { after } from '../../kernel/clock.ts'
import type { Bus } from './contract.ts'

export interface RedisBusOptions {
  client: RedisClient
  url: string
  app: string
  failed(error: unknown): void
}

const sendEveryMs = 2

/** The bus over Redis: messages are words. Who hears nothing looks into the log all the same, only later. */
export function redisBus({ client, url, app, failed }: RedisBusOptions): Bus {
  const channel = `{${app}}:bus`
  const waiting = new Set<string>()
  let news = false
  let pausing = false
  let closed = false
  let subscriber: Promise<{ close(): void }> | undefined

  function flush(): void {
    if (closed || pausing || !(news || waiting.size > 0)) return
    const message = [...waiting].join(' ')
    waiting.clear()
    news = false
    pausing = true
    client.call('PUBLISH', channel, message).catch(failed)
    after(sendEveryMs, () => {
      pausing = false
      flush()
    })
  }

  return {
    ring(words) {
      for (const word of words) waiting.add(word)
      news = true
      flush()
    },
    listen(heard) {
      subscriber = subscribeRedis({
        url,
        channels: [channel],
        onMessage: (_channel, message) => heard(message.toString().split(' ').filter(Boolean)),
        onUp: () => heard([]),
      })
      subscriber.catch(failed)
    },
    async close() {
      closed = true
      await subscriber?.then((one) => one.close()).catch(() => {})
    },
  }
}
