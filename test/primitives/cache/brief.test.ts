import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../../src/kernel/random.ts'
import { BriefMap } from '../../../src/primitives/cache/brief.ts'

test('it is a map, however much has come and gone', () => {
  const random = seededRandom(1)
  const brief = new BriefMap<number, number>()
  const map = new Map<number, number>()
  for (let step = 0; step < 20_000; step += 1) {
    const key = Math.floor(random() * 50)
    if (random() < 0.5) {
      brief.set(key, step)
      map.set(key, step)
    } else {
      brief.delete(key)
      map.delete(key)
    }
    assert.equal(brief.get(key), map.get(key))
    assert.equal(brief.size, map.size)
  }
  assert.deepEqual([...brief.entries()], [...map])
})

test('what is deleted while all are looked at is not missed by those after it', () => {
  const brief = new BriefMap<number, number>()
  for (let key = 0; key < 3_000; key += 1) brief.set(key, key)
  const seen: number[] = []
  for (const [key] of brief.entries()) {
    seen.push(key)
    if (key < 2_990) brief.delete(key)
  }
  assert.equal(seen.length, 3_000)
  assert.deepEqual(
    Array.from(brief.entries(), ([key]) => key),
    seen.slice(2_990),
  )
})
