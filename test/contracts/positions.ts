import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { covers, type Position } from '../../src/kernel/position.ts'
import type { PositionRecords } from '../../src/primitives/positions/contract.ts'

export interface PositionsUnderTest {
  /** As two processes have it, where the adapter is for several; else twice the same. */
  one: PositionRecords
  other: PositionRecords
  close(): Promise<void>
}

/** What every record of positions keeps. */
export function positionsContract(name: string, open: () => Promise<PositionsUnderTest>): void {
  describe(`positions contract: ${name}`, () => {
    let under: PositionsUnderTest
    before(async () => {
      under = await open()
    })
    after(() => under.close())
    const at = (main: bigint, other?: bigint): Position =>
      new Map([['main', main], ...(other === undefined ? [] : [['archive', other] as const])])

    it('what was put is found, by whoever it belongs to', async () => {
      const [anna, bert] = [randomUUID(), randomUUID()]
      await under.one.put(anna, at(0x16b374d848n))
      assert.deepEqual(await under.other.find(anna), at(0x16b374d848n))
      assert.equal(await under.other.find(bert), undefined)
    })

    it('a later one with less takes nothing back', async () => {
      const anna = randomUUID()
      await under.one.put(anna, at(10n, 5n))
      await under.other.put(anna, at(9n, 0x10n))
      assert.deepEqual(await under.one.find(anna), at(10n, 0x10n))
    })

    it('positions of all lengths are in order', async () => {
      const anna = randomUUID()
      for (const lsn of [9n, 0xffn, 0x100n, 0xffffffffffffffffn, 0x1000n]) await under.one.put(anna, at(lsn))
      assert.deepEqual(await under.one.find(anna), at(0xffffffffffffffffn))
    })

    it('of many who put at once all are covered', async () => {
      const anna = randomUUID()
      const all = Array.from({ length: 50 }, (_, n) => at(BigInt(n), BigInt(50 - n)))
      await Promise.all(all.map((position, n) => (n % 2 ? under.one : under.other).put(anna, position)))
      const found = await under.one.find(anna)
      for (const position of all) assert.ok(covers(found!, position))
    })
  })
}
