import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { checkHistory, counterExample, type Operation } from '../../src/history.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { mutations } from './mutations.ts'
import { soundWorld } from './world.ts'

const options = { conservation: { initial: { cash: 100, goods: 100, debts: 100 }, least: 0, closed: true } }
const seeds = fc.integer({ min: 1, max: 2 ** 31 })

it('no checker finds anything in random histories of a world that keeps its promises', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const verdicts = checkHistory(soundWorld(1_500, { seed }), options)
      assert.deepEqual(
        verdicts.flatMap(({ anomalies }) => anomalies.map(({ text }) => text)),
        [],
      )
      assert.deepEqual(
        verdicts.filter(({ checked }) => checked < 5).map(({ checker }) => checker),
        [],
      )
    }),
    { numRuns: 60 },
  )
})

it('nor where nobody knows the outcome of every other operation', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const verdicts = checkHistory(soundWorld(1_500, { seed, unknown: 0.4 }), options)
      assert.deepEqual(
        verdicts.flatMap(({ anomalies }) => anomalies.map(({ text }) => text)),
        [],
      )
    }),
    { numRuns: 60 },
  )
})

describe('what is broken at random is found, and told by few operations', () => {
  const names = checkHistory([]).map(({ checker }) => checker)
  assert.deepEqual(Object.keys(mutations), names)
  for (const [checker, mutate] of Object.entries(mutations))
    it(checker, () => {
      let broken = 0
      fc.assert(
        fc.property(seeds, (seed) => {
          const history: Operation[] = soundWorld(600, { seed }).map((operation) => ({ ...operation }))
          if (!mutate(history, seededRandom(seed))) return
          broken += 1
          const found = checkHistory(history, options).find((verdict) => verdict.checker === checker)!
          assert.ok(found.count > 0, `seed ${seed}`)
          const anomaly = found.anomalies[0]!
          const few = counterExample(history, { checker, anomaly, options })
          if (checker !== 'conservation') assert.ok(few.length <= 8, `${few.length} operations show: ${anomaly.text}`)
          assert.ok(few.length < history.length / 4)
        }),
        { numRuns: 50 },
      )
      assert.ok(broken >= 20, `only ${broken} histories had a place to break`)
    })
})
