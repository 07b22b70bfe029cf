import { createHash } from 'node:crypto'
import { defineScript, type RedisClient } from '../../engines/redis/client.ts'
import { keptMs, type PositionRecords } from './contract.ts'

/**
 * A hash for each owner, a field for each database: 8 digits of the timeline and 16 of the LSN, both hexadecimal, so that the larger number
 * is also the later text. As `furthestPlace` does, the script keeps the larger of each.
 */
export function redisPositions(client: RedisClient, app: string): PositionRecords {
  const keyOf = (owner: string) => `{${app}}:at:${createHash('sha256').update(owner).digest('base64url')}`
  return {
    async put(owner, position) {
      const fields = Array.from(position, ([database, place]) => [
        database,
        place.toString(16).padStart(24, '0'),
      ]).flat()
      if (fields.length > 0) await client.script(putScript, [keyOf(owner)], [keptMs, ...fields])
    },
    async find(owner) {
      const fields = (await client.call('HGETALL', keyOf(owner))) as string[]
      if (fields.length === 0) return undefined
      const position = new Map<string, bigint>()
      for (let at = 0; at < fields.length; at += 2) position.set(fields[at]!, BigInt(`0x${fields[at + 1]}`))
      return position
    },
  }
}

const putScript = defineScript(`
for i = 2, #ARGV, 2 do
  local place = ARGV[i + 1]
  local known = redis.call('HGET', KEYS[1], ARGV[i]) or place
  local timeline, lsn = string.sub(place, 1, 8), string.sub(place, 9)
  if string.sub(known, 1, 8) > timeline then timeline = string.sub(known, 1, 8) end
  if string.sub(known, 9) > lsn then lsn = string.sub(known, 9) end
  redis.call('HSET', KEYS[1], ARGV[i], timeline .. lsn)
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
`)
