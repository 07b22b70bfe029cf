import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { openRedis, type RedisClient } from '../engines/redis/client.ts'
import { redisUrl } from '../engines/redis/recipe.ts'
import { everyAlone, systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { type Duration, toMs } from '../kernel/units.ts'
import { type Fault, type FleetPart, noEffect } from './fault.ts'
import { processOf } from './parts.ts'

/** Faults inside the Redis that Rung runs. */

const flush: Fault = {
  name: 'flush',
  does: 'empties Redis (FLUSHALL)',
  shows: 'Everything is loaded anew, for a moment at the price of the database.',
  on: ['redis'],
  lasts: false,
  async inject({ part }) {
    const redis = await connectToRedis(part)
    try {
      const mark = await setMark(redis)
      await redis.call('FLUSHALL')
      if ((await redis.call('EXISTS', mark)) !== 0) throw noEffect('Redis was emptied, and still has what it had.')
      return { did: 'emptied Redis' }
    } finally {
      redis.close()
    }
  },
}

/** Returns the key of a mark. A node of a cluster stores only keys of its own slots. */
async function setMark(redis: RedisClient): Promise<string> {
  for (let n = 0; ; n += 1) {
    const mark = `rung:chaos:mark:${n}`
    try {
      await redis.call('SET', mark, '1', 'PX', 60_000)
      return mark
    } catch (error) {
      if (n === marksMax || !messageOf(error).includes('MOVED')) throw error
    }
  }
}
const marksMax = 200

const commandMsMax = 5_000

const slow: Fault = {
  name: 'slow',
  does: 'makes commands of Redis wait, by pause after pause (CLIENT PAUSE)',
  shows: 'Requests take longer. Beyond 200 ms a command fails, and the app goes on without Redis.',
  on: ['redis'],
  lasts: true,
  strength: { default: '100ms', help: 'the longest wait' },
  async inject({ part, strength }) {
    const pauseMs = toMs(strength as Duration)
    const redis = await connectToRedis(part, commandMsMax + pauseMs)
    const other = await connectToRedis(part, commandMsMax + pauseMs)
    try {
      await pause(redis, pauseMs)
      const began = systemClock.ticks()
      await other.call('PING')
      const waitedMs = systemClock.ticks() - began
      if (waitedMs < pauseMs / 2)
        throw noEffect(`Redis answered after ${Math.round(waitedMs)} ms, in spite of a pause.`)
    } catch (error) {
      redis.close()
      throw error
    } finally {
      other.close()
    }
    const endPausing = everyAlone(betweenMs, async () => {
      await pause(redis, pauseMs).catch(() => {}) // it was restarted, for example
    })
    return {
      did: `commands wait for up to ${pauseMs} ms`,
      async release() {
        await endPausing()
        redis.close()
      },
    }
  },
}

/** Commands pass between two pauses. A pause ends by itself, and the command for the next one waits for that too. */
const betweenMs = 5
const pause = (redis: RedisClient, ms: number) => redis.call('CLIENT', 'PAUSE', ms, 'ALL')

export const redisFaults: readonly Fault[] = [flush, slow]

export async function connectToRedis(part: FleetPart, commandTimeoutMs = commandMsMax): Promise<RedisClient> {
  processOf(part)
  const config = await readFile(path.join(path.dirname(part.address), 'redis.conf'), 'utf8')
  const password = /^requirepass "([\w-]+)"$/m.exec(config)?.[1] ?? ''
  const url = redisUrl({ listen: { socketPath: part.address }, password })
  return openRedis({ url, commandTimeoutMs, name: 'rung-chaos' })
}
