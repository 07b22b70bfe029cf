import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { checkHistory, checkLimits } from '../../src/history.ts'
import { findings, historyOf, type Written } from './histories.ts'

const write = (session: string, value: number, more: object = {}) =>
  ({ kind: 'write', session, key: 'k', value, ...more }) as const
const read = (session: string, more: object = {}) => ({ kind: 'read', session, key: 'k', ...more }) as const
const late = (session: string) => read(session, { staleMsMax: 250 })
const cached = (session: string, node: string) => read(session, { node, cached: true })
/** An increment in the database: nobody knows what comes out before the answer. */
const increment = (session: string) => ({ kind: 'write', session, key: 'k' }) as const
const publish = (value: string, key = 'article 7') => ({ kind: 'publish', session: 'a', key, value }) as const
const deliver = (value: string, key = 'article 7') => ({ kind: 'deliver', session: 'mailer', key, value }) as const
const drain = { kind: 'drain', session: 'mailer', key: 'queue' } as const
const take = { kind: 'take', session: 'a', key: 'anna', limit: { max: 2, windowMs: 1_000 } } as const
const claim = (session: string) => ({ kind: 'claim', session, key: 'job 7' }) as const
const complete = (session: string, token: number) => ({ kind: 'complete', session, key: 'job 7', token }) as const

/** What was promised: histories that keep it, and such that do not, with what is told of them. */
const promises: Record<string, { kept: Record<string, Written[]>; broken: Record<string, [string[], Written[]]> }> = {
  'bounded-staleness': {
    kept: {
      'a read that may be late shows what was replaced a moment ago': [
        [0, 1, write('a', 1)],
        [10, 20, write('a', 2)],
        [269, 300, late('b'), 'ok', { value: 1 }],
      ],
      'a write whose outcome nobody knows need not be shown': [
        [0, 1, write('a', 1)],
        [10, 20, write('a', 2), 'info'],
        [900, 901, late('b'), 'ok', { value: 1 }],
      ],
      'two writes that overlapped may be in any order': [
        [0, 10, write('a', 1)],
        [5, 20, write('b', 2)],
        [900, 901, late('c'), 'ok', { value: 1 }],
      ],
    },
    broken: {
      'it shows what was replaced longer ago': [
        [
          'bounded-staleness: Session b read 1 of k on web-2 at 0.271 s, which may be 0.250 s old, although 2, which is newer, was there by 0.020 s.',
        ],
        [
          [0, 1, write('a', 1)],
          [10, 20, write('a', 2)],
          [271, 300, late('b'), 'ok', { value: 1, node: 'web-2' }],
        ],
      ],
      'it shows what a write with an unknown outcome replaced, once anybody has seen that': [
        [
          'bounded-staleness: Session b read 1 of k at 0.900 s, which may be 0.250 s old, although 2, which is newer, was there by 0.040 s.',
        ],
        [
          [0, 1, write('a', 1)],
          [10, 20, write('a', 2), 'info'],
          [30, 40, read('c'), 'ok', { value: 2 }],
          [900, 901, late('b'), 'ok', { value: 1 }],
        ],
      ],
    },
  },
  'no-stale-set': {
    kept: {
      'another node is late': [
        [0, 1, write('a', 1, { node: 'web-1' })],
        [2, 3, write('a', 2, { node: 'web-1' })],
        [4, 5, cached('b', 'web-1'), 'ok', { value: 2 }],
        [6, 7, cached('c', 'web-2'), 'ok', { value: 1 }],
        [8, 9, cached('c', 'web-2'), 'ok', { value: 2 }],
      ],
      'the older answer is on its way while the newer one is given': [
        [0, 1, write('a', 1)],
        [2, 3, write('a', 2)],
        [4, 9, cached('b', 'web-1'), 'ok', { value: 1 }],
        [5, 6, cached('c', 'web-1'), 'ok', { value: 2 }],
      ],
      'a write with an unknown outcome on this node is not shown': [
        [0, 1, write('a', 1, { node: 'web-1' })],
        [2, 3, write('a', 2, { node: 'web-1' }), 'info'],
        [4, 5, cached('b', 'web-1'), 'ok', { value: 1 }],
      ],
    },
    broken: {
      'a node shows the newer value to one session and the older one to the next': [
        [
          'no-stale-set: The cache of web-2 showed 1 of k to session c at 0.006 s, although web-2 had shown 2, which is newer, by 0.005 s.',
        ],
        [
          [0, 1, write('a', 1, { node: 'web-1' })],
          [2, 3, write('a', 2, { node: 'web-1' })],
          [4, 5, cached('b', 'web-2'), 'ok', { value: 2 }],
          [6, 7, cached('c', 'web-2'), 'ok', { value: 1 }],
        ],
      ],
      'a node shows what a write on it has replaced': [
        [
          'no-stale-set: The cache of web-1 showed 1 of k to session b at 0.004 s, although web-1 had acknowledged 2, which is newer, by 0.003 s.',
        ],
        [
          [0, 1, write('a', 1, { node: 'web-1' })],
          [2, 3, write('a', 2, { node: 'web-1' })],
          [4, 5, cached('b', 'web-1'), 'ok', { value: 1 }],
        ],
      ],
      'a write with an unknown outcome was shown, and is gone': [
        [
          'no-stale-set: The cache of web-2 showed 1 of k to session c at 0.006 s, although web-2 had shown 2, which is newer, by 0.005 s.',
        ],
        [
          [0, 1, write('a', 1)],
          [2, 3, write('a', 2), 'info'],
          [4, 5, cached('b', 'web-2'), 'ok', { value: 2 }],
          [6, 7, cached('c', 'web-2'), 'ok', { value: 1 }],
        ],
      ],
    },
  },
  'no-lost-update': {
    kept: {
      'each write is based on the one before, also on one whose outcome nobody knew': [
        [0, 1, write('a', 1, { basedOn: null })],
        [2, 3, write('b', 2, { basedOn: 1 }), 'info'],
        [4, 5, write('a', 3, { basedOn: 1 }), 'fail'],
        [6, 7, write('a', 4, { basedOn: 2 })],
      ],
      'of two writes on the same basis the one with the unknown outcome did not happen': [
        [0, 1, write('a', 1, { basedOn: null })],
        [2, 3, write('b', 2, { basedOn: 1 }), 'info'],
        [4, 5, write('a', 3, { basedOn: 1 })],
        [6, 7, read('a', { fresh: true }), 'ok', { value: 3 }],
      ],
      'increments get numbers one after the other': [
        [0, 5, increment('a'), 'ok', { version: 2 }],
        [1, 4, increment('b'), 'ok', { version: 1 }],
        [1, 9, increment('c'), 'info'],
        [6, 7, increment('b'), 'ok', { version: 4 }],
      ],
    },
    broken: {
      'two acknowledged writes are based on the same value': [
        [
          'no-lost-update: Session b wrote 3 of k at 0.003 s, based on 1, and so did session a at 0.002 s: one of the two writes is lost.',
        ],
        [
          [0, 1, write('a', 1, { basedOn: null })],
          [2, 5, write('a', 2, { basedOn: 1 })],
          [3, 6, write('b', 3, { basedOn: 1 })],
        ],
      ],
      'a write whose outcome nobody knew was seen, and another one has the same basis': [
        [
          'no-lost-update: Session a wrote 3 of k at 0.003 s, based on 1, and so did session b at 0.002 s: one of the two writes is lost.',
        ],
        [
          [0, 1, write('a', 1, { basedOn: null })],
          [2, 9, write('b', 2, { basedOn: 1 }), 'info'],
          [3, 8, write('a', 3, { basedOn: 1 })],
          [4, 9, read('c'), 'ok', { value: 2 }],
        ],
      ],
      'a write without a basis was read, and then replaced unseen': [
        [
          'no-lost-update: Session a wrote 3 of k at 0.006 s, based on 1, although 2, which is newer, was there by 0.003 s: it is lost.',
        ],
        [
          [0, 1, write('a', 1)],
          [2, 3, write('b', 2)],
          [6, 7, write('a', 3, { basedOn: 1 })],
        ],
      ],
      'two increments are told the same number': [
        [
          'no-lost-update: Version 2 of k was told to session a at 0.002 s and to session b at 0.003 s: one of the two writes is lost.',
        ],
        [
          [0, 1, increment('a'), 'ok', { version: 1 }],
          [2, 5, increment('a'), 'ok', { version: 2 }],
          [3, 6, increment('b'), 'ok', { version: 2 }],
        ],
      ],
      'the basis was refused': [
        ['no-lost-update: Session a wrote 3 of k at 0.002 s, based on 2, which nobody can have written.'],
        [
          [0, 1, write('b', 2), 'fail'],
          [2, 3, write('a', 3, { basedOn: 2 })],
        ],
      ],
    },
  },
  queue: {
    kept: {
      'messages come more than once, with an unknown outcome, and of other keys in any order': [
        [0, 1, publish('m1')],
        [2, 3, publish('m2')],
        [4, 5, publish('m3', 'article 8')],
        [4, 5, publish('m4'), 'info'],
        [6, 7, deliver('m3', 'article 8')],
        [6, 9, deliver('m1'), 'info'],
        [10, 11, deliver('m2')],
        [12, 13, deliver('m1')],
        [20, 21, drain, 'ok', { values: ['m1', 'm2', 'm3'] }],
      ],
      'a message whose publication nobody confirmed is delivered, and one that failed comes again': [
        [0, 1, publish('m1'), 'info'],
        [2, 3, deliver('m1'), 'fail'],
        [4, 5, deliver('m1')],
        [6, 7, publish('m2')],
        [8, 9, drain, 'info'],
      ],
      'messages that were published at the same time': [
        [0, 5, publish('m1')],
        [1, 4, publish('m2')],
        [6, 7, deliver('m2')],
        [8, 9, deliver('m1')],
      ],
    },
    broken: {
      'a message is lost, another one has two effects, and a third one none': [
        [
          'queue: m1, published at 0.000 s and acknowledged at 0.001 s, was never delivered to mailer, which had no more to do at 0.020 s.',
          'queue: m2, published at 0.002 s and acknowledged at 0.003 s, has 2 effects of mailer, which had no more to do at 0.020 s.',
          'queue: m3, published at 0.004 s and acknowledged at 0.005 s, has no effect of mailer, which had no more to do at 0.020 s.',
        ],
        [
          [0, 1, publish('m1')],
          [2, 3, publish('m2')],
          [4, 5, publish('m3')],
          [6, 7, deliver('m1'), 'fail'],
          [8, 9, deliver('m2'), 'info'],
          [10, 11, deliver('m3')],
          [20, 21, drain, 'ok', { values: ['m2', 'm2'] }],
        ],
      ],
      'one group gets all, and another one does not': [
        [
          'queue: m1, published at 0.000 s and acknowledged at 0.001 s, was never delivered to index, which had no more to do at 0.004 s.',
        ],
        [
          [0, 1, publish('m1')],
          [2, 3, deliver('m1')],
          [4, 5, { ...drain, session: 'index' }],
          [4, 5, drain],
        ],
      ],
      'messages of one key come in another order': [
        [
          'queue: mailer got m2 at 0.004 s, before m1 of the same key article 7 at 0.006 s, which was acknowledged at 0.001 s, before the other was published at 0.002 s.',
        ],
        [
          [0, 1, publish('m1')],
          [2, 3, publish('m2')],
          [4, 5, deliver('m2')],
          [6, 7, deliver('m1')],
        ],
      ],
      'messages are invented': [
        [
          'queue: m0 was delivered to mailer at 0.004 s, and nobody published it.',
          'queue: m1 was delivered to mailer at 0.004 s, and it was refused when it was published at 0.000 s.',
          'queue: m2 was delivered to mailer at 0.004 s, and it was published only at 0.006 s.',
          'queue: There is an effect of m1 in mailer at 0.008 s, which no delivery can have left.',
        ],
        [
          [0, 1, publish('m1'), 'fail'],
          [4, 5, deliver('m0')],
          [4, 5, deliver('m1')],
          [4, 5, deliver('m2')],
          [6, 7, publish('m2'), 'info'],
          [8, 9, drain, 'ok', { values: ['m1'] }],
        ],
      ],
    },
  },
  'rate-limit': {
    kept: {
      'one more is admitted when a window has passed': [
        [0, 1, take],
        [1, 2, take],
        [500, 501, take, 'fail'],
        [1_000, 1_001, take],
        [1_001, 1_002, take],
      ],
      'nobody knows when a slow one was admitted': [
        [0, 1, take],
        [1, 2, take],
        [900, 1_100, take],
      ],
      'one with an unknown outcome may have been refused, and another subject has a limit of its own': [
        [0, 1, take],
        [1, 2, take],
        [3, 4, take, 'info'],
        [5, 6, { ...take, key: 'ben' }],
      ],
    },
    broken: {
      'three are admitted between two full seconds': [
        ['rate-limit: 3 of anna were admitted between 0.900 s and 1.101 s, and its limit is 2 in 1 s.'],
        [
          [0, 1, take],
          [900, 1_000, take],
          [1_000, 1_001, take],
          [1_100, 1_101, take],
        ],
      ],
    },
  },
  'fenced-completion': {
    kept: {
      'a job is handed on, and the first one is refused': [
        [0, 1, claim('w1'), 'ok', { token: 1 }],
        [30, 31, claim('w2'), 'ok', { token: 2 }],
        [40, 41, complete('w1', 1), 'fail'],
        [50, 51, complete('w2', 2)],
      ],
      'a completion overlaps the next claim, and one with an unknown outcome may not have happened': [
        [0, 1, claim('w1'), 'ok', { token: 1 }],
        [30, 35, claim('w2'), 'info'],
        [34, 36, complete('w1', 1), 'info'],
        [40, 42, claim('w3'), 'ok', { token: 3 }],
        [41, 43, complete('w3', 3)],
      ],
    },
    broken: {
      'it is completed twice': [
        [
          'fenced-completion: job 7 was completed by session w1 at 0.010 s and by session w2 at 0.050 s, and both were accepted.',
        ],
        [
          [0, 1, claim('w1'), 'ok', { token: 1 }],
          [10, 40, complete('w1', 1)],
          [30, 31, claim('w2'), 'ok', { token: 2 }],
          [50, 51, complete('w2', 2)],
        ],
      ],
      'a worker that was paused completes what was handed on': [
        [
          'fenced-completion: job 7 was completed by session w1 with token 1 at 0.040 s, although token 2 was granted to session w2 by 0.031 s.',
        ],
        [
          [0, 1, claim('w1'), 'ok', { token: 1 }],
          [30, 31, claim('w2'), 'ok', { token: 2 }],
          [40, 41, complete('w1', 1)],
        ],
      ],
      'nobody knew the outcome of the newer claim, but somebody used its token': [
        [
          'fenced-completion: job 7 was completed by session w1 with token 1 at 0.040 s, although token 2 was used by session w2 by 0.035 s.',
        ],
        [
          [0, 1, claim('w1'), 'ok', { token: 1 }],
          [30, 31, claim('w2'), 'info'],
          [35, 36, complete('w2', 2), 'info'],
          [40, 41, complete('w1', 1)],
        ],
      ],
      'two claims get the same token': [
        [
          'fenced-completion: job 7 was granted to session w2 with token 1 at 0.030 s, although token 1 was granted to session w1 by 0.001 s.',
        ],
        [
          [0, 1, claim('w1'), 'ok', { token: 1 }],
          [30, 31, claim('w2'), 'ok', { token: 1 }],
        ],
      ],
    },
  },
  'single-writer': {
    kept: {
      'a failover, with a write that is under way and one whose outcome nobody knows': [
        [0, 1, write('a', 1), 'ok', { node: 'pg-1', token: 1 }],
        [2, 9, write('a', 2), 'ok', { node: 'pg-1', token: 1 }],
        [3, 5, write('b', 3), 'ok', { node: 'pg-2', token: 2 }],
        [6, 12, write('c', 4, { node: 'pg-1', token: 1 }), 'info'],
        [10, 12, read('b'), 'ok', { node: 'pg-1', token: 1, value: 2 }],
      ],
    },
    broken: {
      'the old primary acknowledges a write after the new one': [
        [
          'single-writer: Session a got a write of k acknowledged on pg-1 at 0.006 s in epoch 1, although epoch 2 had begun by 0.005 s, when pg-2 answered session b in it.',
        ],
        [
          [0, 1, write('a', 1), 'ok', { node: 'pg-1', token: 1 }],
          [3, 5, write('b', 2), 'ok', { node: 'pg-2', token: 2 }],
          [6, 7, write('a', 3), 'ok', { node: 'pg-1', token: 1 }],
        ],
      ],
      'two servers are the primary of one epoch': [
        [
          'single-writer: Writes of epoch 2 were acknowledged on pg-2 at 0.000 s and on pg-3 at 0.001 s: two primaries of one epoch.',
        ],
        [
          [0, 2, write('a', 1), 'ok', { node: 'pg-2', token: 2 }],
          [1, 3, write('b', 2), 'ok', { node: 'pg-3', token: 2 }],
        ],
      ],
    },
  },
}

for (const [checker, { kept, broken }] of Object.entries(promises))
  describe(checker, () => {
    for (const [name, lines] of Object.entries(kept))
      it(`is kept: ${name}`, () => {
        assert.deepEqual(findings(lines), [])
        assert.ok(checkHistory(historyOf(lines)).some((verdict) => verdict.checker === checker && verdict.checked > 0))
      })
    for (const [name, [expected, lines]] of Object.entries(broken))
      it(`is broken: ${name}`, () => {
        assert.deepEqual(
          findings(lines).filter((text) => text.startsWith(`${checker}: `)),
          expected,
        )
      })
  })

it('a limit that is exceeded again and again is reported for each window apart', () => {
  const lines = Array.from({ length: 30 }, (_, n): Written => [n * 100, n * 100 + 1, take])
  const { count, checked } = checkLimits(historyOf(lines))
  assert.deepEqual({ count, checked }, { count: 3, checked: 30 })
})

it('a checker that finds nothing of its kind says that it checked nothing', () => {
  const verdicts = checkHistory(historyOf([[0, 1, take]]))
  assert.deepEqual(
    verdicts.filter(({ checked }) => checked > 0).map(({ checker }) => checker),
    ['rate-limit'],
  )
  assert.equal(new Set(verdicts.map(({ checker }) => checker)).size, 13)
})
