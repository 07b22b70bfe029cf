import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { checkConservation, checkHistory, checkSessions } from '../../src/history.ts'
import { findings, historyOf, soundHistory, type Written } from './histories.ts'

const write = (session: string, key: string, value: number) => ({ kind: 'write', session, key, value }) as const
const read = (session: string, key: string, fresh = false) => ({ kind: 'read', session, key, fresh }) as const
const add = (value: number) => ({ kind: 'add', session: 'a', key: 'orders', value }) as const
const list = { kind: 'list', session: 'end', key: 'orders', fresh: true } as const
const send = (key: string) => ({ kind: 'send', session: 'a', key }) as const
const effects = { kind: 'effects', session: 'end', key: 'effects' } as const
const change = (amounts: Record<string, number>) => ({ kind: 'change', session: 'a', key: 'stock', amounts }) as const
const levels = { kind: 'levels', session: 'end', key: 'stock', fresh: true } as const

describe('sound histories', () => {
  for (const versions of [true, false])
    it(`of random sessions have no anomaly, ${versions ? 'with' : 'without'} versions`, () => {
      for (let seed = 1; seed <= 20; seed += 1) {
        const history = soundHistory(3_000, { versions, seed })
        assert.deepEqual(findings(history), [])
        assert.ok(checkSessions(history).readYourWrites.checked > 1_500)
      }
    })

  it('may have writes with an unknown outcome, seen or not', () => {
    for (const value of [1, 2])
      assert.deepEqual(
        findings([
          [0, 1, write('a', 'k', 1)],
          [2, 3, write('a', 'k', 2), 'info'],
          [4, 5, read('a', 'k', true), 'ok', { value }],
        ]),
        [],
      )
    for (const values of [[1], [1, 2]])
      assert.deepEqual(
        findings([
          [0, 1, add(1)],
          [2, 3, add(2), 'info'],
          [4, 5, list, 'ok', { values }],
        ]),
        [],
      )
    for (const values of [['k1'], ['k1', 'k2']])
      assert.deepEqual(
        findings([
          [0, 1, send('k1'), 'ok', { value: 'yes' }],
          [2, 3, send('k2'), 'info'],
          [2, 3, send('k3'), 'fail'],
          [4, 5, effects, 'ok', { values }],
        ]),
        [],
      )
    for (const cup of [3, 2])
      assert.deepEqual(
        findings(
          [
            [0, 1, change({ cup: -2 })],
            [2, 3, change({ cup: -1 }), 'info'],
            [4, 5, levels, 'ok', { amounts: { cup } }],
          ],
          { cup: 5 },
        ),
        [],
      )
  })

  it('may have operations of a session that overlap', () => {
    assert.deepEqual(
      findings([
        [0, 1, write('a', 'k', 1)],
        [2, 6, write('a', 'k', 2)],
        [3, 7, read('a', 'k'), 'ok', { value: 1 }],
        [3, 8, read('a', 'k'), 'ok', { value: 2 }],
      ]),
      [],
    )
  })

  it('may have a write that another one replaced while both ran', () => {
    assert.deepEqual(
      findings([
        [0, 5, write('a', 'k', 1)],
        [1, 6, write('b', 'k', 2)],
        [7, 8, read('c', 'k', true), 'ok', { value: 1 }],
      ]),
      [],
    )
  })
})

describe('planted faults are found, by the checker whose matter they are', () => {
  const cases: [name: string, expected: string[], lines: Written[], initial?: Record<string, number>][] = [
    [
      'a session reads what was before its own write',
      [
        'read-your-writes: Session a read 1 of k on web-2 at 4.000 s, although it had written 2 on web-1 at 2.000 s and knew so at 3.000 s.',
      ],
      [
        [0, 1_000, write('b', 'k', 1)],
        [2_000, 3_000, write('a', 'k', 2), 'ok', { node: 'web-1' }],
        [4_000, 5_000, read('a', 'k'), 'ok', { value: 1, node: 'web-2' }],
      ],
    ],
    [
      'a session goes back in time',
      ['monotonic-reads: Session c read 1 of k at 0.006 s, although it had read 2, which is newer, at 0.004 s.'],
      [
        [0, 1, write('a', 'k', 1)],
        [2, 3, write('a', 'k', 2)],
        [4, 5, read('c', 'k'), 'ok', { value: 2 }],
        [6, 7, read('c', 'k'), 'ok', { value: 1 }],
      ],
    ],
    [
      'a session goes back to no value',
      ['monotonic-reads: Session c read no value of k at 0.004 s, although it had read 1, which is newer, at 0.002 s.'],
      [
        [0, 1, write('a', 'k', 1)],
        [2, 3, read('c', 'k'), 'ok', { value: 1 }],
        [4, 5, read('c', 'k'), 'ok', { value: null }],
      ],
    ],
    [
      'a session that has read a write of another one does not see what that one knew',
      [
        'writes-follow-reads: Session b read no value of question at 0.006 s, although 1 was there by 0.001 s, before a write of answer began at 0.002 s which the session knew.',
      ],
      [
        [0, 1, write('a', 'question', 1)],
        [2, 3, write('a', 'answer', 1)],
        [4, 5, read('b', 'answer'), 'ok', { value: 1 }],
        [6, 7, read('b', 'question'), 'ok', { value: null }],
      ],
    ],
    [
      'a write whose outcome nobody knew was seen, and later it is gone',
      ['monotonic-reads: Session b read 1 of k at 0.006 s, although it had read 2, which is newer, at 0.004 s.'],
      [
        [0, 1, write('a', 'k', 1)],
        [2, 3, write('a', 'k', 2), 'info'],
        [4, 5, read('b', 'k'), 'ok', { value: 2 }],
        [6, 7, read('b', 'k'), 'ok', { value: 1 }],
      ],
    ],
    [
      'of two writes at once the newer one, by its version, is not seen',
      [
        'read-your-writes: Session b read 1 of k at 0.007 s, although it had written 2 at 0.001 s and knew so at 0.006 s.',
      ],
      [
        [0, 5, write('a', 'k', 1), 'ok', { version: 1 }],
        [1, 6, write('b', 'k', 2), 'ok', { version: 2 }],
        [7, 8, read('b', 'k'), 'ok', { value: 1, version: 1 }],
      ],
    ],
    [
      'an acknowledged value is lost',
      ['acknowledged-writes: 2 of k was there by 0.003 s, and a read of the primary at 0.004 s has 1, which is older.'],
      [
        [0, 1, write('a', 'k', 1)],
        [2, 3, write('b', 'k', 2)],
        [4, 5, read('c', 'k', true), 'ok', { value: 1 }],
      ],
    ],
    [
      'an acknowledged element is lost',
      [
        'acknowledged-writes: 2 was added to orders at 0.002 s and acknowledged at 0.003 s, and the list at 0.004 s does not have it.',
      ],
      [
        [0, 1, add(1)],
        [2, 3, add(2)],
        [4, 5, list, 'ok', { values: [1] }],
      ],
    ],
    [
      'a removed element comes back',
      [
        'acknowledged-writes: 1 was removed from orders at 0.002 s, acknowledged at 0.003 s, and the list at 0.004 s still has it.',
      ],
      [
        [0, 1, add(1)],
        [2, 3, { ...add(1), kind: 'remove' }],
        [4, 5, list, 'ok', { values: [1] }],
      ],
    ],
    [
      'something appears that was refused, and something that nobody wrote',
      [
        'acknowledged-writes: Session c read 9 of k at 0.004 s, which nobody can have written.',
        'acknowledged-writes: The list of orders at 0.004 s has 2, whose addition at 0.002 s was refused.',
        'acknowledged-writes: The list of orders at 0.004 s has 3, which nobody added.',
      ],
      [
        [0, 1, add(1)],
        [2, 3, add(2), 'fail'],
        [4, 5, list, 'ok', { values: [1, 2, 3] }],
        [4, 5, read('c', 'k'), 'ok', { value: 9 }],
      ],
    ],
    [
      'one key has two effects, one has none, one is refused and has one, and one was never sent',
      [
        'one-effect: twice, sent at 0.000 s, has 2 effects at 0.008 s.',
        'one-effect: never, sent at 0.002 s, was acknowledged and has no effect at 0.008 s.',
        'one-effect: refused, sent at 0.004 s, was refused and has an effect at 0.008 s.',
        'one-effect: There is an effect of alien at 0.008 s, which nobody sent.',
      ],
      [
        [0, 1, send('twice'), 'ok', { value: 'yes' }],
        [2, 3, send('never'), 'ok', { value: 'yes' }],
        [4, 5, send('refused'), 'fail'],
        [8, 9, effects, 'ok', { values: ['twice', 'twice', 'refused', 'alien'] }],
      ],
    ],
    [
      'one key has two answers',
      ['one-effect: k was answered with order 1 at 0.000 s and with order 2 at 0.002 s.'],
      [
        [0, 1, send('k'), 'ok', { value: 'order 1' }],
        [2, 3, send('k'), 'ok', { value: 'order 2' }],
      ],
    ],
    [
      'stock is sold twice, and more than there is',
      [
        'conservation: cup held -1 at 0.004 s, less than 0.',
        'conservation: cup held -1 at 0.004 s; its acknowledged changes make 1 to 2, by 1 with an unknown outcome.',
      ],
      [
        [0, 1, change({ cup: -3 })],
        [2, 3, change({ cup: 1 }), 'info'],
        [4, 5, levels, 'ok', { amounts: { cup: -1 } }],
      ],
      { cup: 4 },
    ],
  ]
  for (const [name, expected, lines, initial] of cases)
    it(name, () => assert.deepEqual(findings(lines, initial), expected))

  it('money vanishes between two accounts', () => {
    const history = historyOf([
      [0, 1, change({ held: -5, paid: 5 }), 'ok'],
      [2, 3, levels, 'ok', { amounts: { held: 5, paid: 4 } }],
    ])
    const { anomalies } = checkConservation(history, { initial: { held: 10, paid: 0 }, closed: true })
    assert.deepEqual(
      anomalies.map(({ text }) => text),
      [
        'All accounts together held 9 at 0.002 s, and 10 in the beginning.',
        'paid held 4 at 0.002 s; its acknowledged changes make 5.',
      ],
    )
  })

  it('stock is sold of which a snapshot says how much there was in the beginning', () => {
    const lines = (cup: number): Written[] => [
      [0, 1, levels, 'ok', { amounts: { cup: 5 } }],
      [2, 3, change({ cup: -2 })],
      [4, 5, levels, 'ok', { amounts: { cup } }],
    ]
    assert.deepEqual(findings(lines(3)), [])
    assert.deepEqual(findings(lines(4)), ['conservation: cup held 4 at 0.004 s; its acknowledged changes make 3.'])
  })

  for (const versions of [true, false])
    it(`one read in a thousand is late, ${versions ? 'with' : 'without'} versions`, () => {
      const history = soundHistory(20_000, { versions, lagged: (n) => (n % 1_000 === 999 ? 5_000 : 0) })
      const counts = Object.values(checkSessions(history)).map(({ count }) => count)
      assert.ok(counts.reduce((sum, one) => sum + one, 0) > 5, String(counts))
    })
})

it('a value that is written to a key twice, or a message that is published twice, is refused', () => {
  for (const one of [write('a', 'k', 1), { ...write('a', 'k', 1), kind: 'publish' } as const]) {
    const history = historyOf([
      [0, 1, one],
      [2, 3, { ...one, session: 'b' }],
    ])
    assert.throws(() => checkHistory(history), { code: 'HISTORY_INVALID' })
  }
})
