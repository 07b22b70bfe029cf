import { defineScript } from '../../engines/redis/client.ts'
import type { RedisNode } from '../../engines/redis/nodes.ts'
import { ownText } from '../../kernel/own-text.ts'
import { secret } from '../../kernel/random.ts'
import type { Read, SharedLayer } from './layer.ts'

/**
 * The shared layer in one Redis (6.2 to 8) or Valkey, or on one node of several. All its keys have one hash tag: a script touches the
 * entry, its tags and the epoch, and in a cluster they must lie in one slot.
 *
 *     {app}:epoch            run id of the server, epoch, mark
 *     {app}:<epoch>:n        the counter of invalidations
 *     {app}:<epoch>:t:<tag>  number of its last invalidation
 *     {app}:<epoch>:e:<key>  the entry
 *     {app}:<epoch>:l:<key>  the lease of who loads it: the count when it began, and its id
 */
export function redisLayer({ client, root }: RedisNode): SharedLayer {
  const epochKey = `${root}:epoch`
  const entry = (epoch: string, key: string) => `${root}:${epoch}:e:${key}`
  const lease = (epoch: string, key: string) => `${root}:${epoch}:l:${key}`
  const tagKeys = (epoch: string, names: readonly string[]) => names.map((name) => `${root}:${epoch}:t:${name}`)
  const counter = (epoch: string) => `${root}:${epoch}:n`
  /** What both ends of a load look at. */
  const loadKeys = (epoch: string, key: string, tags: readonly string[]) => [
    epochKey,
    counter(epoch),
    lease(epoch, key),
    entry(epoch, key),
    ...tagKeys(epoch, tags),
  ]
  const ends: (() => void)[] = []
  const read = together(epochKey, async (keys) => (await client.callBuffer('MGET', ...keys)) as Found[])

  return {
    async enter({ renew, mark, markAgeMsMax }) {
      const { run_id: run = 'unknown' } = await client.info('server')
      const fresh = secret(6)
      const args = [run, renew ? '1' : '0', mark, markAgeMsMax, fresh, tagMs]
      const [id, kept] = (await client.script(enterScript, [epochKey, counter(fresh)], args)) as [string, string]
      return { id, mark: kept }
    },

    read: (epoch, key, tags) => read(epoch, entry(epoch, key), tagKeys(epoch, tags)),

    async open(epoch, key, tags, { id, ms }, seen) {
      const args = [epoch, id, ms, tagMs, seen?.subarray(2, 18) ?? '']
      const answer = (await client.script(openScript, loadKeys(epoch, key, tags), args)) as number[] | null
      return answer === null
        ? 'stale'
        : { number: Number(answer[0]), leased: answer[1] === 1, changed: answer[1] === 2 }
    },

    async store(epoch, key, { bytes, number, tags, ttlMs }, leaseId) {
      const args = [epoch, leaseId, number, ttlMs, tagMs, bytes]
      const answer = await client.script(storeScript, loadKeys(epoch, key, tags), args)
      return answer === null ? 'stale' : answer === 1
    },

    async release(epoch, key, leaseId) {
      await client.script(releaseScript, [lease(epoch, key)], [leaseId])
    },

    async invalidate(epoch, tags) {
      const keys = [epochKey, counter(epoch), ...tagKeys(epoch, tags)]
      const answer = await client.script(invalidateScript, keys, [epoch, tagMs])
      return answer === null ? 'stale' : true
    },

    async setMark(epoch, mark) {
      const answer = await client.script(markScript, [epochKey, counter(epoch)], [epoch, mark, tagMs])
      return answer === null ? 'stale' : true
    },

    watch(lost) {
      ends.push(client.onChange((isUp) => isUp || lost()))
    },

    async facts() {
      const info = await client.info()
      const { valkey_version: valkey, redis_version: redis = '' } = info
      return {
        engine: valkey ? `Valkey ${valkey}` : `Redis ${redis}`,
        keys: Number(await client.call('DBSIZE')),
        bytes: Number(info.used_memory ?? 0),
        bytesMax: Number(info.maxmemory ?? 0),
        evicted: Number(info.evicted_keys ?? 0),
      }
    },

    async close() {
      for (const end of ends) end()
      client.close()
    },
  }
}

type Found = Buffer | null

/** The most keys of one command. More would make others wait. */
const keysMax = 1_000

/** What is asked for in one turn of the event loop is one command, which gets the epoch first, then each entry and its tags. */
function together(
  epochKey: string,
  load: (keys: readonly string[]) => Promise<Found[]>,
): (epoch: string, entry: string, tags: readonly string[]) => Promise<Read | 'stale'> {
  type Waiting = { epoch: string; tags: number; resolve(read: Read | 'stale'): void; reject(error: unknown): void }
  let waiting: Waiting[] = []
  let keys = [epochKey]

  async function flush(): Promise<void> {
    if (waiting.length === 0) return // it had become too many before
    const [all, asked] = [waiting, keys]
    waiting = []
    keys = [epochKey]
    try {
      const found = await load(asked)
      const current = epochIn(found[0])
      let at = 1
      for (const { epoch, tags, resolve } of all) {
        const entry = found[at] ?? undefined
        const numbers: (number | undefined)[] = []
        for (let tag = 1; tag <= tags; tag += 1) numbers.push(numberIn(found[at + tag]))
        resolve(epoch === current ? { entry, numbers } : 'stale')
        at += 1 + tags
      }
    } catch (error) {
      for (const { reject } of all) reject(error)
    }
  }

  return (epoch, entry, tags) =>
    new Promise((resolve, reject) => {
      if (keys.length + tags.length > keysMax) void flush()
      if (waiting.length === 0) process.nextTick(() => void flush())
      waiting.push({ epoch, tags: tags.length, resolve, reject })
      keys.push(entry, ...tags)
    })
}

/**
 * A tag that nothing asks for is forgotten: then it counts as invalidated, which costs a load and harms nobody. A counter as well, for
 * which each new mark counts as a question: it goes with its epoch.
 */
const tagMs = 7_200_000

const lua = (name: string) => ownText(import.meta.url, `./redis/${name}.lua`)
const inEpoch = lua('in-epoch')
const withCount = inEpoch + lua('with-count')

const enterScript = defineScript(lua('enter'))
const openScript = defineScript(withCount + lua('open'))
const storeScript = defineScript(withCount + lua('store'))
const releaseScript = defineScript(lua('release'))
const invalidateScript = defineScript(withCount + lua('invalidate'))
const markScript = defineScript(inEpoch + lua('mark'))

function epochIn(about: Found | undefined): string | undefined {
  return about?.toString('latin1').split(' ', 2)[1]
}

/** A count, in digits. Read without making text of it: there is one with each tag of each hit. */
function numberIn(digits: Found | undefined): number | undefined {
  if (!digits) return undefined
  let number = 0
  for (let at = 0; at < digits.length; at += 1) number = 10 * number + digits[at]! - 48
  return number
}
