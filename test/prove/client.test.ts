import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Answer, NoAnswer } from '../../src/load/connections.ts'
import { JourneyOver } from '../../src/load/visitor.ts'
import { clientOf, NoSuccess, untilKnown } from '../../src/prove/client.ts'

function answer(status: number, headers: Record<string, string> = {}, text = ''): Answer {
  const body = Buffer.from(text)
  return { status, body, header: (name) => headers[name], json: () => JSON.parse(text) }
}

const clientThat = (answers: () => Promise<Answer>) => clientOf({ request: answers }, {})
const answering = (...of: Parameters<typeof answer>) => clientThat(async () => answer(...of))
const outcomeOf = async (work: Promise<unknown>) => {
  const thrown = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  assert.ok(thrown instanceof NoSuccess)
  return thrown.outcome
}
const inHand = { 'retry-after': '1' }

describe('the client of a proof', () => {
  it('returns the body: parsed, as text, or none', async () => {
    const json = { 'content-type': 'application/json; charset=utf-8' }
    assert.deepEqual(await answering(200, json, '{"a":1}').get('/'), { a: 1 })
    assert.equal(await answering(200, { 'content-type': 'text/html' }, '<p>').get('/'), '<p>')
    assert.equal(await answering(204).delete('/'), undefined)
    assert.equal(await outcomeOf(answering(200, json, '{"a":').post('/')), 'unknown')
  })

  it('takes a redirect after a write as a success, and after a read as none', async () => {
    assert.equal(await answering(303, {}, 'See /notes').post('/notes'), undefined)
    assert.equal(await outcomeOf(answering(302).get('/notes')), 'refused')
  })

  it('knows from the headers what happened, and never from words', async () => {
    assert.equal(await outcomeOf(answering(409, {}, 'no idempotency for cups that are sold out').post('/')), 'refused')
    assert.equal(await outcomeOf(answering(409, inHand, 'ask again').post('/')), 'unknown')
    assert.equal(await outcomeOf(answering(422).post('/')), 'refused')
    assert.equal(await outcomeOf(answering(429, inHand).post('/')), 'not-done')
    assert.equal(await outcomeOf(answering(503, inHand).post('/')), 'not-done')
    assert.equal(await outcomeOf(answering(503).post('/')), 'unknown')
    assert.equal(await outcomeOf(answering(408).post('/')), 'unknown')
    const withKey = clientOf({ request: async () => answer(503, inHand) }, {}, { 'idempotency-key': 'o1' })
    assert.equal(await outcomeOf(withKey.post('/')), 'unknown', 'an edge says so too where the app was gone meanwhile')
    const broken = (failure: 'refused' | 'broken') =>
      clientThat(async () => {
        throw new JourneyOver('', { cause: new NoAnswer(failure) })
      })
    assert.equal(await outcomeOf(broken('refused').post('/')), 'not-done')
    assert.equal(await outcomeOf(broken('broken').post('/')), 'unknown')
  })
})

describe('a request that is sent until its outcome is known', () => {
  const [unknown, notDone, refused] = (['unknown', 'not-done', 'refused'] as const).map(
    (outcome) => new NoSuccess(outcome, undefined, outcome),
  )
  const visitor = { think: async () => {} }
  const over = new AbortController().signal
  /** The outcomes of its tries, of which the last is repeated; it returns how often it was sent. */
  async function sending(tries: readonly (Error | undefined)[], until = over) {
    let sent = 0
    const send = async () => {
      sent += 1
      const error = tries[Math.min(sent, tries.length) - 1]
      if (error) throw error
    }
    const outcome = await untilKnown(send, visitor, until).then(
      () => 'done',
      (error) => error.message,
    )
    return [outcome, sent]
  }

  it('is sent again after an unknown outcome, and if it was not done', async () => {
    assert.deepEqual(await sending([unknown, notDone, notDone, undefined]), ['done', 4])
  })

  it('is not sent again after a refusal, or a mistake of the proof', async () => {
    assert.deepEqual(await sending([notDone, refused]), ['refused', 2])
    assert.deepEqual(await sending([new TypeError('a mistake')]), ['a mistake', 1])
  })

  it('stays unknown if it was so once, whatever comes later', async () => {
    assert.deepEqual(await sending([unknown, notDone]), ['unknown', 40])
    assert.deepEqual(await sending([unknown, refused]), ['unknown', 2])
    assert.deepEqual(await sending([notDone]), ['not-done', 40])
  })

  it('ends with the proof', async () => {
    assert.deepEqual(await sending([notDone], AbortSignal.abort()), ['not-done', 1])
  })
})
