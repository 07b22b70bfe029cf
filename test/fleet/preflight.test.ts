import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ClimbPlan } from '../../src/fleet/climb.ts'
import { climbedTo } from '../../src/fleet/climbed.ts'
import { checksOf, type PreflightFacts } from '../../src/fleet/preflight.ts'
import { loadParser } from '../../src/stateless/parse.ts'
import { sessionStatements } from '../../src/stateless/session-sql.ts'
import { treeOf } from '../../src/stateless/tree.ts'
import { rungs } from '../../src/topology/catalog.ts'
import { differenceOf } from '../../src/topology/diff.ts'

const gibibyte = 1024 ** 3
const plan: ClimbPlan = {
  ...differenceOf(rungs['10k'], rungs['100k']),
  from: '10k',
  to: '100k',
  added: ['postgres-2', 'postgres-3', 'pooler', 'web-2', 'web-3', 'balancer'],
  removed: [],
  restarted: ['web-1', 'worker-1'],
  parts: { now: 5, next: 11 },
  connections: { needed: 134, room: 150 },
  missing: [],
  replicas: { now: 0, next: 2 },
  processes: { now: 2, next: 4 },
}
const good: PreflightFacts = {
  plan,
  isProduction: true,
  kept: [],
  sessionStatements: [],
  externalRoom: undefined,
  backup: { newestMs: 3_600_000, drillMs: 86_400_000 },
  disk: { freeBytes: 20 * gibibyte, databaseBytes: gibibyte },
  doctor: [],
  memory: { freeBytes: 4 * gibibyte, addedBytes: gibibyte },
  cores: 4,
}
const refusedIn = (facts: Partial<PreflightFacts>, ...accepted: string[]) =>
  checksOf({ ...good, ...facts }, new Set(accepted)).flatMap(({ name, state }) => (state === 'refused' ? [name] : []))

describe('the checks before a climb', () => {
  it('pass where nothing is wrong', () => {
    const all = checksOf(good, new Set())
    assert.deepEqual(
      all.filter(({ state }) => state !== 'ok').map(({ name, state }) => [name, state]),
      [
        ['statements', 'look'], // what reads need, only a test tells
        ['cores', 'look'],
      ],
    )
    assert.equal(all.length, 10)
  })

  const wrong: [what: string, facts: Partial<PreflightFacts>, names: string[]][] = [
    ['a missing engine', { plan: { ...plan, missing: [{ name: 'haproxy', problem: 'it is missing' }] } }, ['engines']],
    ['state in one process', { kept: [{ place: 'app.ts:3', what: 'count is changed.' }] }, ['stateless']],
    ['a statement of a session', { sessionStatements: [{ place: 'app.ts:9', what: 'it uses SET' }] }, ['statements']],
    ['too few connections', { plan: { ...plan, connections: { needed: 160, room: 150 } } }, ['connections']],
    [
      'too few connections of a Postgres that runs elsewhere',
      { plan: { ...plan, connections: { needed: 134, room: null } }, externalRoom: 97 },
      ['connections'],
    ],
    ['no backup', { backup: null }, ['backup']],
    ['an old backup and no drill', { backup: { newestMs: 3 * 86_400_000, drillMs: undefined } }, ['backup', 'drill']],
    ['a full disk', { disk: { freeBytes: 3 * gibibyte, databaseBytes: gibibyte } }, ['disk']],
    ['a finding of the doctor', { doctor: ['An index is missing.'] }, ['doctor']],
    ['too little memory', { memory: { freeBytes: gibibyte, addedBytes: gibibyte } }, ['memory']],
    ['too few cores', { plan: { ...plan, processes: { now: 2, next: 5 } }, cores: 1 }, ['cores']],
  ]
  for (const [what, facts, names] of wrong) {
    it(`refuse ${what}, unless it is accepted by its name`, () => {
      assert.deepEqual(refusedIn(facts), names)
      assert.deepEqual(refusedIn(facts, ...names), names[0] === 'engines' ? ['engines'] : [])
      for (const { state, todo } of checksOf({ ...good, ...facts }, new Set()))
        assert.equal(state === 'refused' && todo === undefined, false)
    })
  }

  it('only ask for backups on the way back', () => {
    assert.deepEqual(refusedIn({ backup: null, plan: { ...plan, parts: { now: 11, next: 5 } } }), [])
  })

  it('only ask for backups in development', () => {
    assert.deepEqual(refusedIn({ backup: null, isProduction: false }), [])
  })

  it('leave out the connections of a Postgres that runs elsewhere and could not be asked', () => {
    const facts = { ...good, plan: { ...plan, connections: { needed: 134, room: null } } }
    assert.ok(!checksOf(facts, new Set()).some(({ name }) => name === 'connections'))
  })

  it('ask less on the way down', () => {
    const down: ClimbPlan = {
      ...{ ...plan, ...differenceOf(rungs['100k'], rungs['10k']), from: '100k', to: '10k' },
      ...{ replicas: { now: 2, next: 0 }, processes: { now: 4, next: 2 }, parts: { now: 11, next: 5 } },
    }
    const kept = [{ place: 'app.ts:3', what: 'count is changed.' }]
    const doctor = ['An index is missing.']
    assert.deepEqual(refusedIn({ plan: down, kept, sessionStatements: kept, doctor }), [])
    const found = checksOf({ ...good, plan: down, doctor }, new Set()).find(({ name }) => name === 'doctor')
    assert.deepEqual([found!.state, found!.todo], ['look', 'rung doctor says what to do.'])
  })
})

describe('statements that need a session of their own', async () => {
  const parse = await loadParser()
  const found = (text: string) => {
    const source = { file: '/app.ts', text }
    const parsed = parse(source)
    assert.ok(!('problem' in parsed))
    return sessionStatements([treeOf(source, parsed)]).map(({ line, what }) => `${line} ${what}`)
  }
  it('are found', () => {
    assert.deepEqual(found('await tx`set statement_timeout = 5`\nawait tx`listen news`'), ['1 SET', '2 LISTEN'])
    assert.deepEqual(found("sql('select pg_advisory_lock(1)')"), ['1 an advisory lock of the session'])
    assert.deepEqual(found('tx`create temp table t (id int)`'), ['1 a temporary table'])
    assert.deepEqual(found('tx`prepare one as select 1`; tx`declare c cursor with hold for select 1`'), [
      '1 PREPARE',
      '1 a cursor WITH HOLD',
    ])
  })
  it('are not those of one transaction, and no prose', () => {
    assert.deepEqual(
      found(
        "tx`set local x = 1`; tx`set transaction read only`; tx`update a set b = 1`; tx`select pg_advisory_xact_lock(1)`; tx`create temp table t (id int) on commit drop`; const text = 'set the table, prepare the food, listen to me'",
      ),
      [],
    )
  })
})

describe('what a climb leaves behind', () => {
  it('is the way back', () => {
    const first = climbedTo(undefined, '1k', '10k', '1k')
    assert.deepEqual(first, { rung: '10k', before: ['1k'], settings: '1k' })
    const second = climbedTo(first, '10k', '100k', '1k')
    assert.deepEqual(second!.before, ['1k', '10k'])
    assert.deepEqual(climbedTo(second, '100k', '10k', '1k'), first)
    assert.equal(climbedTo(first, '10k', '1k', '1k'), undefined)
    assert.deepEqual(climbedTo(second, '100k', '1k', '1k')!.before, ['1k', '10k', '100k'])
  })
})
