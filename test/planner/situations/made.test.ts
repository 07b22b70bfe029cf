import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { advise } from '../../../src/planner/advisor.ts'
import { checkCondition, parseCondition } from '../../../src/planner/condition.ts'
import { figuresOf } from '../../../src/planner/evidence.ts'
import { situations } from './made.ts'
import { evidenceOfWorld } from './world.ts'

describe('situations made by their costs and their traffic', () => {
  for (const { name, because, world, now, notYet = [] } of situations) {
    it(`${name}: ${now.length > 0 ? now.join(', ') : 'not yet'}`, async () => {
      const evidence = await evidenceOfWorld(world)
      const { findings, pressure } = advise(evidence)
      const told = findings.map(({ verdict, kind, what, rule }) => `${verdict}: ${kind}: ${what} ${rule}`).join('\n')
      const first = findings.filter(({ verdict }) => verdict === 'now').map(({ kind }) => kind)
      assert.deepEqual(first, now, `${because}\n${pressure.why}\n${told}`)
      for (const [kind, pattern] of notYet) {
        const found = findings.find((one) => one.verdict === 'not yet' && one.kind === kind)
        assert.match(`${found?.what} ${found?.seen} ${found?.rule}`, pattern, told)
      }
      for (const { kind, revisitWhen } of findings) {
        const condition = parseCondition(revisitWhen)
        assert.ok(condition, `${kind} has no condition that can be read: ${revisitWhen}`)
        // What is decided today need not be looked at again today.
        assert.ok(!checkCondition(condition, figuresOf(evidence), evidence.today).isTrue, `${kind}: ${revisitWhen}`)
      }
    })
  }
})
