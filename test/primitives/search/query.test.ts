import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { thinningAfter } from '../../../src/primitives/search/query.ts'

describe('how much of an index is looked at next', () => {
  const after = (found: number, thinning: number) => thinningAfter(found, thinning, 500)

  it('ends with a look at all', () => {
    assert.equal(after(0, 0), undefined)
    assert.equal(after(500, 0), undefined)
  })

  it('looks at all where few seem to match', () => {
    assert.equal(after(13, 5), 0, 'about 416')
    assert.equal(after(10, 6), 0, 'about 640, but two of three samples are 200 off')
  })

  it('is content with a sample of many', () => {
    assert.equal(after(51, 4), undefined)
    assert.equal(after(400, 1), undefined)
  })

  it('takes a larger sample of many where it was too small, by as much as it was', () => {
    assert.equal(after(20, 6), 2, 'about 1280, of which a quarter is 320')
  })

  it('goes step by step where next to nothing was found', () => {
    assert.equal(after(0, 20), 12)
    assert.equal(after(1, 8), 0)
  })

  it('ends within four looks, however many match', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.integer({ min: 0, max: 20 }), (matching, first) => {
        let looks = 0
        for (let next: number | undefined = first; next !== undefined; looks += 1) {
          const found = Math.min(500, Math.floor(matching / 2 ** next))
          const deeper = after(found, next)
          assert.ok(deeper === undefined || deeper < next)
          next = deeper
        }
        assert.ok(looks <= 4, `${looks} looks`)
      }),
    )
  })
})
