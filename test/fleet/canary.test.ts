import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Answers, answersIn, answersSince, noAnswers, notWorse, p95, worseIn } from '../../src/fleet/canary.ts'
import { seededRandom } from '../../src/kernel/random.ts'

const edges = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1]

/** Answers of these durations, in seconds, of which the first ones failed. */
function answers(durations: readonly number[], errors = 0): Answers {
  const within = new Map(edges.map((edge) => [edge, durations.filter((one) => one <= edge).length]))
  return { ...noAnswers, requests: durations.length, errors, within }
}
const even = (count: number, seconds: number) => Array.from({ length: count }, () => seconds)

describe('old and new processes', () => {
  it('are read from their metrics, without health and metrics', () => {
    const text = [
      'http_request_duration_seconds_bucket{le="0.01",method="GET",route="/a",status="200",module="x"} 3',
      'http_request_duration_seconds_bucket{le="+Inf",method="GET",route="/a",status="200",module="x"} 4',
      'http_request_duration_seconds_count{method="GET",route="/a",status="200",module="x"} 4',
      'http_request_duration_seconds_bucket{le="0.01",method="GET",route="/a",status="500",module="x"} 1',
      'http_request_duration_seconds_count{method="GET",route="/a",status="500",module="x"} 1',
      'http_request_duration_seconds_count{method="GET",route="/readyz",status="503",module=""} 900',
      'http_request_duration_seconds_bucket{le="0.01",method="GET",route="/a",status="429",module="x",refused="yes"} 7',
      'http_request_duration_seconds_count{method="GET",route="/a",status="429",module="x",refused="yes"} 7',
      'http_request_duration_seconds_count{method="GET",route="/a",status="503",module="x",refused="yes"} 6',
    ].join('\n')
    const now = answersIn(text)
    assert.deepEqual(now, { requests: 5, errors: 1, refused: 7, shed: 6, within: new Map([[0.01, 4]]) })
    const before = { requests: 2, errors: 0, refused: 3, shed: 1, within: new Map([[0.01, 2]]) }
    const since = { requests: 3, errors: 1, refused: 4, shed: 5, within: new Map([[0.01, 2]]) }
    assert.deepEqual(answersSince(before, now), since)
    for (const more of [{ requests: 9 }, { refused: 9 }])
      assert.deepEqual(answersSince({ ...noAnswers, ...more }, now), now, 'it was restarted')
  })

  it('are compared by the requests that reached a handler', () => {
    const old = answers(even(1_000, 0.004))
    const limited = { ...answers(even(20, 0.004), 10), refused: 400 }
    assert.equal(worseIn(old, limited), undefined, 'too few to say')
    assert.equal(
      notWorse(limited),
      'too little traffic to compare (20 requests, and 400 more that were refused before they reached a handler): goes on by readiness alone',
    )
    assert.match(worseIn(old, { ...answers(even(40, 0.004), 20), refused: 4_000 })!, /^50 % of 40 requests/)
    const bothShed = [old, answers(even(40, 0.004), 20)].map((one) => ({ ...one, shed: one.requests * 9 }))
    assert.match(worseIn(bothShed[0]!, bothShed[1]!)!, /^50 % of 40 requests/)
    assert.match(worseIn(old, { ...answers(even(20, 0.004)), shed: 20 })!, /^50 % of 40 requests/, 'it alone sheds')
    assert.equal(notWorse(answers(even(40, 0.004))), 'no worse after 40 requests')
  })

  it('are compared only when there are enough requests', () => {
    const old = answers(even(1_000, 0.004))
    assert.equal(worseIn(old, answers(even(29, 0.9), 29)), undefined)
    assert.match(worseIn(old, answers(even(30, 0.004), 30))!, /^100 % of 30 requests to the new build failed with 5xx/)
    assert.equal(worseIn(noAnswers, answers(even(500, 0.9), 100)), undefined, 'there is nothing to compare with')
  })

  it('differ by errors or by a p95 that is much longer, not by chance and not when both are bad', () => {
    const old = answers(even(1_000, 0.004), 2)
    assert.equal(worseIn(old, answers(even(100, 0.004), 2)), undefined)
    assert.match(worseIn(old, answers(even(100, 0.004), 10))!, /^10 % of 100 .* and 0\.2 % of 1000 to the old one\.$/)
    assert.equal(worseIn(answers(even(1_000, 0.004), 200), answers(even(100, 0.004), 22)), undefined)
    assert.equal(worseIn(old, answers(even(100, 0.04))), undefined, 'it matters little')
    assert.match(
      worseIn(old, answers(even(100, 0.2)))!,
      /^The p95 of the new build is 250 ms .* 5 ms over 1000: it is slower\.$/,
    )
    assert.equal(worseIn(answers(even(1_000, 0.2)), answers(even(100, 0.2))), undefined)
    assert.equal(worseIn(answers(even(1_000, 0.2)), answers(even(100, 0.3))), undefined, 'one bucket')
    assert.equal(p95(answers([...even(95, 0.004), ...even(5, 0.9)])), 0.005)
  })

  it('that are equal are hardly ever told apart', () => {
    const random = seededRandom(7)
    const draw = (count: number) => {
      const durations = Array.from({ length: count }, () => 0.004 / Math.max(1e-3, random()))
      return answers(durations, durations.filter(() => random() < 0.02).length)
    }
    const found = Array.from({ length: 2_000 }, () => worseIn(draw(400), draw(100))).filter((one) => one !== undefined)
    assert.ok(found.length <= 2, `${found.length} false alarms: ${found[0]}`)
  })
})
