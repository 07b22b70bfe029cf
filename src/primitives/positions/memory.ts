import { systemClock } from '../../kernel/clock.ts'
import { furthest, nowhere, type Position } from '../../kernel/position.ts'
import { keptMs, type PositionRecords } from './contract.ts'

const recordsMax = 50_000

/** For the one process that takes requests. */
export function memoryPositions(clock = systemClock): PositionRecords {
  const records = new Map<string, { position: Position; until: number }>()
  return {
    async put(owner, position) {
      const known = records.get(owner)
      records.delete(owner) // to the end: the map is in the order of their ends
      const now = clock.ticks()
      records.set(owner, { position: furthest(position, known?.position ?? nowhere), until: now + keptMs })
      for (const [first, { until }] of records) {
        if (until > now && records.size <= recordsMax) break
        records.delete(first)
      }
    },
    async find(owner) {
      const known = records.get(owner)
      return known && known.until > clock.ticks() ? known.position : undefined
    },
  }
}

/** For several processes that share nothing but the database: positions are unknown, and the caller reads the log. */
export function unknownPositions(): PositionRecords {
  return {
    async put() {},
    async find() {
      throw new Error('the processes of this topology share no record of positions')
    },
  }
}
