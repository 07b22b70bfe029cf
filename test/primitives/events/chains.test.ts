import assert from 'node:assert/strict'
import { it } from 'node:test'
import { formatPlace, placeAt } from '../../../src/kernel/position.ts'
import { seededRandom, shuffled } from '../../../src/kernel/random.ts'
import { joinChains, withPlaces } from '../../../src/primitives/events/chains.ts'
import type { Chain } from '../../../src/primitives/events/contract.ts'

const place = (lsn: bigint) => formatPlace(placeAt(1, lsn))
const event = (n: number) => ({ n, name: 'e', payload: '1', key: undefined, context: {} })
const chain = (after: number, ...numbers: number[]): Chain => ({
  ...{ source: 'main', history: 'h', place: place(BigInt(after)), after, events: numbers.map(event) },
})
const told = (chains: readonly Chain[]) => chains.map(({ after, events }) => [after, ...events.map(({ n }) => n)])

it('joins what follows each other, in whatever order and how often it comes', () => {
  const single = [10, 12, 13, 20, 21].map((n, at, all) => chain(all[at - 1] ?? 9, n))
  for (let seed = 1; seed <= 20; seed += 1) {
    assert.deepEqual(told(joinChains(shuffled([...single, ...single], seededRandom(seed)))), [[9, 10, 12, 13, 20, 21]])
  }
})

it('keeps gaps apart', () => {
  assert.deepEqual(told(joinChains([chain(5, 6), chain(1, 2), chain(2, 3)])), [
    [1, 2, 3],
    [5, 6],
  ])
})

it('joins chains that overlap', () => {
  assert.deepEqual(told(joinChains([chain(1, 2, 3, 4), chain(2, 3, 4, 5), chain(1, 2)])), [[1, 2, 3, 4, 5]])
})

it('does not join different histories', () => {
  const other = { ...chain(2, 3), history: 'other' }
  assert.deepEqual(told(joinChains([chain(1, 2), other])), [
    [1, 2],
    [2, 3],
  ])
})

it('adds where an event was committed to what its publisher had seen', () => {
  const one = chain(7, 8)
  const [added] = withPlaces({
    ...one,
    events: [{ ...event(8), context: { traceparent: 't', position: { other: place(3n), main: place(1n) } } }],
  }).events
  assert.deepEqual(added!.context, { traceparent: 't', position: { main: place(7n), other: place(3n) } })
})
