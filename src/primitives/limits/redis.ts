import { defineScript, type RedisClient } from '../../engines/redis/client.ts'
import { type Limiter, slotMsOf, slotsOfWindow } from './contract.ts'

/**
 * Counts in Redis: a hash for each key, a field for each slot that is not empty. All keys of an app have one hash tag, so all
 * asks of a request are one script, one round trip and one slot of a cluster. The window's arithmetic is that of `memory.ts`,
 * with the server's clock. The engine forgets what has left by itself; what it loses is told by nobody (see `insured.ts`).
 */
export function redisLimiter(client: RedisClient, app: string): Limiter {
  const keysOf = (all: readonly { key: string }[]) => all.map(({ key }) => `{${app}}:limit:${key}`)
  return {
    async take(asks) {
      if (asks.length === 0) return []
      const args = asks.flatMap(({ max, windowMs }) => [max, slotMsOf(windowMs)])
      const rows = (await client.script(takeScript, keysOf(asks), [slotsOfWindow, ...args])) as number[][]
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
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** The clock of a server may be set back; counts never are. */
const takeScript = defineScript(`${now}
local length = tonumber(ARGV[1])
local verdicts = {}
for i = 1, #KEYS do
  local max, slotMs = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local slot = math.floor(now / slotMs)
  local known = redis.call('HGETALL', KEYS[i])
  for at = 1, #known, 2 do
    known[at] = tonumber(known[at])
    if known[at] > slot then slot = known[at] end
  end
  local slots, counts, gone, used = {}, {}, {}, 0
  for at = 1, #known, 2 do
    if known[at] < slot - length then
      gone[#gone + 1] = string.format('%.0f', known[at])
    else
      slots[#slots + 1] = known[at]
      counts[known[at]] = tonumber(known[at + 1])
      used = used + counts[known[at]]
    end
  end
  local admitted = used < max
  if admitted then
    used = used + 1
    if not counts[slot] then slots[#slots + 1] = slot end
    counts[slot] = (counts[slot] or 0) + 1
    if #gone > 0 then redis.call('HDEL', KEYS[i], unpack(gone)) end
    redis.call('HINCRBY', KEYS[i], string.format('%.0f', slot), 1)
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', (slot + length + 1) * slotMs - now + 1))
  end
  table.sort(slots)
  local leaving, nextMs = math.max(1, used - max + 1), 0
  for _, one in ipairs(slots) do
    leaving = leaving - counts[one]
    if leaving <= 0 then
      nextMs = (one + length + 1) * slotMs - now
      break
    end
  end
  verdicts[i] = { admitted and 1 or 0, used, nextMs, slot }
end
return verdicts
`)

const giveBackScript = defineScript(`
for i = 1, #KEYS do
  local count = tonumber(redis.call('HGET', KEYS[i], ARGV[i]) or '0')
  if count > 1 then redis.call('HINCRBY', KEYS[i], ARGV[i], -1)
  elseif count == 1 then redis.call('HDEL', KEYS[i], ARGV[i]) end
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
