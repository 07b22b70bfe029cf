import { defineScript, type RedisClient } from '../../engines/redis/client.ts'
import { type Limiter, slotMsOf } from './contract.ts'

/**
 * Counts in Redis: a hash for each key, a field for each slot that is not empty: how many, and when the last of them was admitted. All keys of an app have one hash tag, so all
 * asks of a request are one script, one round trip and one slot of a cluster. The window's arithmetic is that of `memory.ts`,
 * with the server's clock. The engine forgets what has left by itself; what it loses is told by nobody (see `insured.ts`).
 */
export function redisLimiter(client: RedisClient, app: string): Limiter {
  const keysOf = (all: readonly { key: string }[]) => all.map(({ key }) => `{${app}}:limits:${key}`)
  return {
    async take(asks) {
      if (asks.length === 0) return []
      const args = asks.flatMap(({ max, windowMs }) => [max, windowMs, slotMsOf(windowMs)])
      const rows = (await client.script(takeScript, keysOf(asks), args)) as number[][]
      return rows.map(([admitted, used, nextMs, slot]) => ({
        admitted: admitted === 1,
        used: used!,
        nextMs: nextMs!,
        slot: slot!,
      }))
    },
    async giveBack(taken) {
      if (taken.length === 0) return
      await client.script(
        giveBackScript,
        keysOf(taken),
        taken.map(({ slot }) => slot),
      )
    },
    prune: async () => 0,
  }
}

/** Says that this process takes requests; gives how many have said so within `lastingMs`, this one included. */
export function redisRollCall(client: RedisClient, app: string, id: string): (lastingMs: number) => Promise<number> {
  return async (lastingMs) => Number(await client.script(rollCallScript, [`{${app}}:nodes`], [id, lastingMs]))
}

const now = `
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
`

/** The clock of a server may be set back; counts never are. */
const takeScript = defineScript(`${now}
local verdicts = {}
for i = 1, #KEYS do
  local max, window, length = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local at, slots, gone, used = now, {}, {}, 0
  local known = redis.call('HGETALL', KEYS[i])
  for n = 1, #known, 2 do
    local count, last = string.match(known[n + 1], '(%d+) (%S+)')
    slots[#slots + 1] = { field = known[n], count = tonumber(count), last = tonumber(last) }
    if slots[#slots].last > at then at = slots[#slots].last end
  end
  local live = {}
  for _, one in ipairs(slots) do
    if one.last <= at - window then
      gone[#gone + 1] = one.field
    else
      live[#live + 1] = one
      used = used + one.count
    end
  end
  table.sort(live, function(a, b) return a.last < b.last end)
  local slot = string.format('%.0f', math.floor(at / length))
  local admitted = used < max
  if admitted then
    used = used + 1
    local latest = live[#live]
    if not latest or latest.field ~= slot then
      latest = { field = slot, count = 0 }
      live[#live + 1] = latest
    end
    latest.count, latest.last = latest.count + 1, at
    if #gone > 0 then redis.call('HDEL', KEYS[i], unpack(gone)) end
    redis.call('HSET', KEYS[i], slot, string.format('%.0f %.3f', latest.count, at))
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', at + window - now + 1))
  end
  local leaving, nextMs = math.max(1, used - max + 1), 0
  for _, one in ipairs(live) do
    leaving = leaving - one.count
    if leaving <= 0 then
      nextMs = window - (now - one.last)
      break
    end
  end
  verdicts[i] = { admitted and 1 or 0, used, math.ceil(nextMs), tonumber(slot) }
end
return verdicts
`)

const giveBackScript = defineScript(`
for i = 1, #KEYS do
  local count, last = string.match(redis.call('HGET', KEYS[i], ARGV[i]) or '', '(%d+) (%S+)')
  if count and tonumber(count) > 0 then
    redis.call('HSET', KEYS[i], ARGV[i], string.format('%.0f %s', tonumber(count) - 1, last))
  end
end
return 1
`)

const rollCallScript = defineScript(`${now}
local lasting = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - lasting)
redis.call('PEXPIRE', KEYS[1], lasting)
return redis.call('ZCARD', KEYS[1])
`)
