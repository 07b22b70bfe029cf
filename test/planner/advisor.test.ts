import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { changeToRung } from '../../src/planner/advise-capacity.ts'
import { advise } from '../../src/planner/advisor.ts'
import { calibrated, demandFrom } from '../../src/planner/calibrated.ts'
import { checkCondition, figureNames, parseCondition, problemIn } from '../../src/planner/condition.ts'
import { decisionText, fileNameOf, parseDecision } from '../../src/planner/decision.ts'
import { type Evidence, figuresOf, growthOf, unsteadinessOf } from '../../src/planner/evidence.ts'
import { inMarkdown } from '../../src/planner/words.ts'
import { rungs } from '../../src/topology/catalog.ts'

const today = 20_787
const evidence: Evidence = {
  ...{ today, topology: rungs['10k'], cores: 4, spread: false },
  window: { hours: 168, requests: 100_000 },
  ...{
    routes: [],
    statements: [],
    pools: [],
    processes: [],
    services: [],
    queues: [],
    cache: [],
    modules: [],
    doctor: [],
  },
  database: { readSeconds: 100, writeSeconds: 100, coresMost: 1 },
  ...{ peaks: [], weeks: [] },
}
const hours = Array.from({ length: 24 }, (_, hour) => hour)
const kindsOf = (more: Partial<Evidence>) =>
  advise({ ...evidence, ...more }).findings.map(({ verdict, kind }) => `${verdict} ${kind}`)

describe('advice', () => {
  it('takes memory that follows requests for no leak', () => {
    const rising = hours.map((hour) => 150e6 + hour * 10e6)
    const process = { node: 'a', role: 'both', loopMost: 0.2, memoryBytes: rising }
    assert.ok(kindsOf({ processes: [{ ...process, requests: hours.map(() => 1_000) }] }).includes('now memory'))
    assert.ok(
      !kindsOf({ processes: [{ ...process, requests: hours.map((hour) => 100 + 50 * hour) }] }).includes('now memory'),
    )
    const few = rising.slice(0, 8)
    assert.ok(
      !kindsOf({ processes: [{ ...process, memoryBytes: few, requests: few.map(() => 1) }] }).includes('now memory'),
    )
  })

  it('leaves a pool as it is where Postgres is full, or where waits are short or few', () => {
    const pool = { target: 'read', max: 10, waits: 5_000, waitSeconds: 50, waitMs95: 40 } as const
    assert.ok(kindsOf({ pools: [pool] }).includes('now pool'))
    const busy = { readSeconds: 100, writeSeconds: 100, coresMost: 3.5 }
    assert.ok(kindsOf({ pools: [pool], database: busy }).includes('not yet pool'))
    for (const small of [{ waits: 10 }, { waitSeconds: 5 }, { waitMs95: 1 }])
      assert.ok(!kindsOf({ pools: [{ ...pool, ...small }] }).some((one) => one.endsWith('pool')))
    const unmeasured = { readSeconds: 100, writeSeconds: 100 }
    assert.ok(!kindsOf({ pools: [pool], database: unmeasured }).some((one) => one.endsWith('pool')))
    const minutes = kindsOf({ pools: [pool], window: { hours: 0.5, requests: 20_000 } })
    assert.deepEqual(
      minutes.filter((one) => one.endsWith('pool')),
      ['not yet pool'],
    )
    const early = figuresOf({ ...evidence, window: { hours: 0.07, requests: 500 } })
    assert.deepEqual([early.hours_recorded, early.requests_per_day], [0.07, undefined])
    assert.ok(!('database_share' in figuresOf({ ...evidence, database: unmeasured })))
  })

  it('gives a module nodes of its own that takes what is scarce, where a balancer can lead requests there', () => {
    const media = {
      ...{
        module: 'media',
        hours: 168,
        callers: [],
        callees: [],
        loopMost: 0.2,
        poolWaitMs95: 1,
        oldestJobSeconds: 60,
      },
      requests: { count: 10, share: 0.1, timesOthers: 1, p95Ms: 5 },
      work: { count: 900, share: 0.9, timesOthers: 20 },
    }
    const articles = { ...media, module: 'articles', work: { count: 9, share: 0.1, timesOthers: 1 } }
    const at100k = { topology: rungs['100k'], modules: [articles, media] }
    const found = advise({ ...evidence, ...at100k }).findings.filter(({ kind }) => kind === 'group')
    assert.deepEqual(
      found.map(({ verdict, what }) => [verdict, what]),
      [['now', 'Give "media" processes of its own.']],
    )
    assert.match(found[0]!.seen, /^A job waited for 60 s, and "media" takes 90 %/)
    const none = [
      { ...at100k, topology: rungs['10k'] },
      { ...at100k, window: { hours: 2, requests: 100 } },
      { ...at100k, modules: [{ ...media, oldestJobSeconds: 1 }] },
      {
        ...at100k,
        topology: { ...rungs['100k'], groups: [{ name: 'm', modules: ['media'], web: 0, worker: 1, connections: 5 }] },
      },
    ]
    for (const more of none) assert.ok(!kindsOf(more).includes('now group'))
  })

  it('mends jobs that fail before it starts workers for them', () => {
    const queue = { queue: 'mail', oldestSecondsMost: 900, done: 600, failed: 400, seconds: 100 }
    const [first] = advise({ ...evidence, queues: [{ ...queue, waiting: hours.map((hour) => hour * 50) }] }).findings
    assert.equal(first!.kind, 'queue')
    assert.match(first!.what, /Mend the jobs/)
    assert.ok(!kindsOf({ queues: [{ ...queue, waiting: hours.map(() => 40) }] }).includes('now queue'))
  })

  it('says of a statement with a missing index only that, and puts the doctor’s acts among the findings', () => {
    const statement = 'select * from shop.item where place = $1'
    const common = { severity: 'act', gain: 'Less.', sql: 'create index …', undo: 'drop index …', statement }
    const index = {
      ...{ ...common, kind: 'missing-index', what: 'An index is missing.' },
      evidence: { costBefore: 1_000, costAfter: 10, timeShare: 0.5, calls: 100, meanMs: 200 },
    }
    const slow = { ...common, kind: 'slow-statement', what: 'It is slow.', evidence: { meanMs: 200, timeShare: 0.5 } }
    const other = { ...common, kind: 'wraparound', what: 'Ids run out.', evidence: { age: 2e9 } }
    assert.deepEqual(kindsOf({ doctor: [slow, index, other] }), ['now index', 'now doctor', 'not yet rung'])
    assert.deepEqual(kindsOf({ doctor: [slow] }), ['now query', 'not yet rung'])
    const note = { ...other, severity: 'note' }
    assert.deepEqual(kindsOf({ doctor: [note] }), ['not yet rung'])
  })

  it('works with nothing at all', () => {
    assert.deepEqual(
      kindsOf({ window: { hours: 0, requests: 0 }, database: { readSeconds: 0, writeSeconds: 0, coresMost: 0 } }),
      ['not yet rung'],
    )
  })
})

describe('a condition', () => {
  it('is read as it was written, and nothing else is one', () => {
    for (const name of Object.keys(figureNames)) assert.ok(parseCondition(`${name} < 1`), name)
    assert.ok(parseCondition('headroom < 0.4 or day >= 2027-03-01'))
    for (const text of [
      '',
      'headroom',
      'headroom < low',
      'moon > 1',
      'headroom < 0.4 and day > 2027-01-01',
      'day > soon',
      'day >= 5',
      'day >= 2026-02-30',
      'headroom < 0x10',
      'headroom < 1e3',
    ])
      assert.equal(parseCondition(text), undefined, text)
  })

  it('says what of it cannot be read', () => {
    assert.equal(problemIn('headroom < 0.4'), undefined)
    for (const [text, problem] of [
      ['headroom < 0.4 or monthly_user > 1', 'there is no figure monthly_user; is it monthly_users?'],
      ['moon > 1', 'there is no figure moon'],
      ['day >= 5', '"5" is no day such as 2027-03-01'],
      ['headroom < 0x10', '"0x10" is no number such as 0.3'],
      ['soon', '"soon" is no comparison such as headroom < 0.3'],
    ])
      assert.equal(problemIn(text!), problem)
    assert.deepEqual(parseDecision('# 1. Wait\n\n**Revisit when** `monthly_user > 1`'), {
      title: '1. Wait',
      problem: '"monthly_user > 1" cannot be read: there is no figure monthly_user; is it monthly_users?',
    })
  })

  it('comes true when one comparison does; what is not known does not', () => {
    const check = (text: string, figures: Record<string, number>) =>
      checkCondition(parseCondition(text)!, figures, today)
    assert.deepEqual(check('headroom < 0.4', { headroom: 0.71 }), { isTrue: false, now: ['headroom is 0.71'] })
    assert.ok(check('headroom < 0.4', { headroom: 0.39 }).isTrue)
    assert.deepEqual(check('headroom < 0.4', {}), { isTrue: false, now: ['headroom is not known'] })
    assert.ok(check('headroom < 0.4 or day >= 2026-11-30', { headroom: 0.7 }).isTrue)
    assert.ok(!check('day >= 2026-12-01', {}).isTrue)
  })
})

describe('a decision', () => {
  it('is read back with its condition, and has the figures and the alternatives', () => {
    const { findings } = advise(evidence)
    const text = decisionText(12, findings[0]!, { others: findings, figures: figuresOf(evidence), today })
    assert.deepEqual(parseDecision(text), {
      title: '12. Stay at rung 10k, as it is',
      revisitWhen: findings[0]!.revisitWhen,
    })
    assert.match(text, /`read_share` 0\.5 /)
    const alone = decisionText(12, findings[0]!, { others: [], figures: {}, today })
    assert.equal(alone.split('Stay at rung 10k').length, 2, 'the title is the choice, and is not repeated')
    assert.deepEqual(parseDecision('# 3. Ours\n\n**Revisit when** we feel like it.'), { title: '3. Ours' })
    assert.deepEqual(parseDecision('# 3. \u001b[2JOurs\u202e\n\n**Revisit when** `\u001b]0;x\u0007 < 1`'), {
      title: '3. ?[2JOurs?',
      problem: parseDecision('# 3. Ours\n\n**Revisit when** `?]0;x? < 1`').problem!,
    })
    assert.deepEqual(parseDecision('# 3. Ours\n\n**Revisit when:** `moon < 1`'), {
      ...{ title: '3. Ours', problem: '"moon < 1" cannot be read: there is no figure moon' },
    })
    assert.equal(fileNameOf(3, 'Climb to rung 100k: now!'), '0003-climb-to-rung-100k-now.md')
    assert.equal(fileNameOf(4, '???'), '0004-decision.md')
  })
})

describe('a change to another rung', () => {
  const { '1k': low, '10k': middle } = rungs
  it('is a climb, and a stop only for a number of processes that a climb cannot choose', () => {
    assert.deepEqual(changeToRung(low, '10k'), { change: 'rung climb 10k', undo: 'rung climb --undo' })
    assert.equal(changeToRung(middle, '100k', rungs['100k'].processes.web).change, 'rung climb 100k')
    assert.equal(changeToRung(middle, '100k', 5).change, 'rung climb 100k, then rung scale web=5')
    assert.deepEqual(changeToRung(low, '10k', 3), {
      change: 'rung stop && rung up 10k --web 3',
      undo: 'rung stop && rung up 1k',
    })
    assert.equal(changeToRung(middle, '10k', 3).undo, 'rung stop && rung up 10k --web 1')
  })
})

describe('figures', () => {
  it('have the scatter of weeks around their line, and the growth of a line', () => {
    assert.equal(unsteadinessOf([1, 2, 3]), undefined)
    assert.ok(unsteadinessOf([100, 110, 120, 130])! < 1e-9)
    assert.ok(unsteadinessOf([100, 400, 100, 400])! > 0.4)
    assert.deepEqual(growthOf([0, 2, 4, 6, 8, 10]), { perHour: 2, fit: 1 })
    assert.equal(growthOf([5, 5, 5, 5, 5, 5])!.fit, 0)
  })

  it('of the cost of a request are the slope over the rate, below what the busy hours say', () => {
    const samples = Array.from({ length: 24 }, (_, hour) => ({
      rate: 1 + hour,
      cores: { app: 0.1 + 0.002 * (1 + hour), idle: 0.05 },
    }))
    const { app, idle } = demandFrom(samples)!
    assert.ok(Math.abs(app!.likely - 2) < 1e-9)
    assert.ok(app!.high > 5, 'with what runs anyway')
    assert.ok(idle!.likely > 0, 'no slope: the ratio')
    assert.equal(demandFrom(samples.slice(0, 3)), undefined)
    assert.equal(demandFrom(samples.map((one) => ({ ...one, rate: 0.001 }))), undefined)
    const facts = { counts: {}, cores: 1, routes: [] }
    assert.equal(calibrated([], facts), undefined)
    const { steps, limit } = calibrated(
      samples.map((one) => ({ ...one, p95Ms: 30 })),
      facts,
    )!
    assert.equal(limit.likely, 24)
    assert.deepEqual(steps[0], { rate: 1, p95: 30 }, 'from which the model has what requests wait in any case')
  })
})

it('a text of others stays what it is in Markdown, in one line', () => {
  const text = '&lt;b&gt; @channel\n\u202e[a](https://example.org)\u001b[31m'
  assert.equal(inMarkdown(text), '\\&lt;b\\&gt; @channel ?\\[a\\]\\(https://example.org\\)?\\[31m')
})
