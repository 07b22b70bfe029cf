import { createHash } from 'node:crypto'
import { defineScript } from '../../engines/redis/client.ts'
import { keyOf, type RedisNodes } from '../../engines/redis/nodes.ts'
import { keptMs, type PositionRecords } from './contract.ts'

/** A hash for each owner, a field for each database; numbers are written so that the larger one is also the later text. */
export function redisPositions(nodes: RedisNodes): PositionRecords {
  const recordOf = (owner: string) => keyOf(nodes, `at:${createHash('sha256').update(owner).digest('base64url')}`)
  return {
    async put(owner, position) {
      const fields = Array.from(position, ([database, place]) => [
        database,
        place.toString(16).padStart(24, '0'),
      ]).flat()
      const { client, key } = recordOf(owner)
      if (fields.length > 0) await client.script(putScript, [key], [keptMs, ...fields])
    },
    async find(owner) {
      const { client, key } = recordOf(owner)
      const fields = (await client.call('HGETALL', key)) as string[]
      if (fields.length === 0) return undefined
      const position = new Map<string, bigint>()
      for (let at = 0; at < fields.length; at += 2) position.set(fields[at]!, BigInt(`0x${fields[at + 1]}`))
      return position
    },
  }
}

const putScript = defineScript(`
for i = 2, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or known < ARGV[i + 1] then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
`)
