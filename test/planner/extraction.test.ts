import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { judgeExtraction, type ModuleFacts, ratesOf } from '../../src/planner/extraction.ts'

const calm: ModuleFacts = {
  module: 'media',
  hours: 24,
  requests: { count: 1_000, share: 0.4, timesOthers: 6, p95Ms: 80 },
  work: { count: 200, share: 0.9, timesOthers: 20 },
  callers: [],
  callees: [],
  loopMost: 0.2,
  poolWaitMs95: 1,
  oldestJobSeconds: 0.5,
}

describe('whether a module is worth nodes of its own', () => {
  for (const [what, facts, isWorth, reason] of [
    ['nothing is scarce', {}, false, /^Nothing is scarce: event loops were busy at most 20 % of an hour/],
    ['too little is known', { hours: 0.5, loopMost: 1 }, false, /^Less than an hour is recorded/],
    [
      'event loops are busy with it',
      { loopMost: 0.8 },
      true,
      /busy 80 % of the busiest hour, and "media" takes 40 % of the time of all requests/,
    ],
    ['connections are waited for, and it takes them', { poolWaitMs95: 120 }, true, /took more than 120 ms/],
    [
      'jobs wait, and they are its own',
      { oldestJobSeconds: 60 },
      true,
      /^A job waited for 60 s, and "media" takes 90 % of the time of all jobs/,
    ],
    [
      'jobs wait, and they are others’',
      { oldestJobSeconds: 60, work: { count: 1, share: 0.1, timesOthers: 20 } },
      false,
      /One process more helps as much: rung scale worker=…/,
    ],
    [
      'event loops are busy with others',
      { loopMost: 0.8, requests: { count: 9, share: 0.02, timesOthers: 6, p95Ms: 5 } },
      false,
      /rung scale web=…/,
    ],
    [
      'it takes as long as any',
      { loopMost: 0.8, requests: { count: 9, share: 0.9, timesOthers: 1.5, p95Ms: 5 } },
      false,
      /each 1.5 times as long as one of the others. One process more helps as much: rung scale web=…/,
    ],
    [
      'there are no others',
      { loopMost: 0.8, requests: { count: 9, share: 1, timesOthers: 0, p95Ms: 5 } },
      false,
      /takes 100 % of the time of all requests. One process more/,
    ],
  ] as const) {
    it(what, () => {
      const judged = judgeExtraction({ ...calm, ...facts })
      assert.equal(judged.isWorth, isWorth)
      assert.match(judged.reasons.join(' '), reason)
    })
  }

  it('says how often it is called, and how long a call takes', () => {
    assert.deepEqual(ratesOf([{ module: 'desk', count: 7_200, seconds: 36 }], 1), [{ module: 'desk', perS: 2, ms: 5 }])
    assert.deepEqual(ratesOf([{ module: 'desk', count: 0, seconds: 0 }], 0), [{ module: 'desk', perS: 0, ms: 0 }])
  })
})
