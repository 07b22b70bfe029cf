import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ReadyFacts, readyLines } from '../../src/planner/ready.ts'
import { reportText } from '../../src/planner/report.ts'

const day = 86_400_000
const now = Date.UTC(2026, 10, 30)
const good: ReadyFacts = {
  ...{ now, rung: '10k', to: '100k', rungs: ['1k', '10k', '100k'] },
  loadTest: { at: now - 3 * day, rung: '10k', rate: 240, isOpen: false, isOfOtherBuild: false },
  headroom: 0.6,
  kept: [],
  proof: { at: now - 3 * day, rung: '10k', held: true, wrote: true },
  recorded: { hours: 168 },
  usersKnown: true,
  alerts: { told: ['webhook'], rules: 18, owner: 'web' },
  present: { firing: [], openIncidents: 0 },
  backup: { newestMs: day / 2, drillMs: 10 * day },
  deploys: { count: 20, failedShare: 0.05 },
  doctor: [],
  decisionsDue: [],
}
const missing = (facts: Partial<ReadyFacts>) =>
  readyLines({ ...good, ...facts }).flatMap(({ name, state }) => (state === 'yes' ? [] : [`${name} ${state}`]))

describe('readiness', () => {
  it('is complete where each point has its evidence', () => {
    assert.deepEqual(missing({}), [])
    for (const { todo, seen } of readyLines(good)) assert.ok(todo === undefined && /\.$/.test(seen), seen)
  })

  const cases: [what: string, facts: Partial<ReadyFacts>, missing: string[]][] = [
    ['a rung that does not exist', { to: '1m' }, ['rung no']],
    ['a rung that is not the next one', { rungs: ['1k', '10k', '30k', '100k'] }, ['rung no']],
    ['the rung at which it runs', { to: '10k' }, ['rung no']],
    ['no load test', { loadTest: undefined }, ['load no']],
    ['a load test of other code', { loadTest: { ...good.loadTest!, isOfOtherBuild: true } }, ['load no']],
    ['a load test at another rung', { loadTest: { ...good.loadTest!, rung: '1k' } }, ['load no']],
    ['a limit that was not found', { loadTest: { ...good.loadTest!, isOpen: true } }, ['load no']],
    ['a load test long ago', { loadTest: { ...good.loadTest!, at: now - 91 * day } }, ['load no']],
    ['little that is free', { headroom: 0.19 }, ['headroom no']],
    ['an unknown headroom', { headroom: undefined }, ['headroom unknown']],
    ['a process that keeps something', { kept: ['app.ts:3: a counter'] }, ['stateless no']],
    ['sources that cannot be read', { kept: undefined }, ['stateless unknown']],
    ['a proof that was not held', { proof: { ...good.proof!, held: false } }, ['proof no']],
    ['a proof that wrote nothing', { proof: { ...good.proof!, wrote: false } }, ['proof no']],
    ['an old proof', { proof: { ...good.proof!, at: now - 91 * day } }, ['proof no']],
    ['half a week of record', { recorded: { hours: 80 } }, ['record no']],
    ['unknown users', { usersKnown: false }, ['users no']],
    ['alerts that reach nobody', { alerts: { ...good.alerts!, told: [] } }, ['alerts no']],
    ['alerts without an owner', { alerts: { ...good.alerts!, owner: undefined } }, ['alerts no']],
    ['an alert that fires', { present: { ...good.present!, firing: ['pool-used'] } }, ['calm no']],
    ['alerts that could not be read', { present: undefined }, ['calm unknown']],
    ['alerts that are off', { alerts: null }, ['alerts no']],
    ['a record that is off', { recorded: null }, ['record no']],
    ['a record that could not be read', { recorded: undefined }, ['record unknown']],
    ['an open incident', { present: { ...good.present!, openIncidents: 1 } }, ['calm no']],
    ['no backups', { backup: null }, ['backup no']],
    ['a database elsewhere', { backup: undefined }, ['backup unknown']],
    ['an old backup', { backup: { ...good.backup!, newestMs: 3 * day } }, ['backup no']],
    ['no drill', { backup: { ...good.backup!, drillMs: undefined } }, ['drill no']],
    ['deploys that fail', { deploys: { count: 20, failedShare: 0.2 } }, ['deploys no']],
    ['deploys that could not be read', { deploys: undefined }, ['deploys unknown']],
    ['no deploys', { deploys: { count: 0, failedShare: 0 } }, ['deploys no']],
    ['a finding of the doctor', { doctor: ['a foreign key has no index'] }, ['schema no']],
    ['a decision that is due', { decisionsDue: ['Climb to 100k'] }, ['decisions no']],
  ]
  for (const [what, facts, names] of cases) {
    it(`lacks exactly one point with ${what}, and says what to do`, () => {
      assert.deepEqual(missing(facts), names)
      const [line] = readyLines({ ...good, ...facts }).filter(({ state }) => state !== 'yes')
      assert.match(line!.seen, /[.]$/)
      if (!names.includes('rung no')) assert.ok(line!.todo)
    })
  }
})

it('tells what goes on and how old things are in whole sentences', () => {
  const seen = (facts: Partial<ReadyFacts>, point: string) =>
    readyLines({ ...good, ...facts }).find(({ name }) => name === point)!.seen
  const calm = (firing: string[], openIncidents: number) => seen({ present: { firing, openIncidents } }, 'calm')
  assert.equal(calm([], 1), '1 incident is open.')
  assert.equal(calm(['pool-used', 'disk-full'], 0), 'These alerts fire: pool-used, disk-full.')
  assert.equal(calm(['pool-used'], 2), '2 incidents are open. These alerts fire: pool-used.')
  const backup = { newestMs: 2 * 3_600_000, drillMs: day }
  assert.equal(seen({ backup }, 'backup'), 'The newest base backup is 2 h old.')
  assert.equal(seen({ backup }, 'drill'), 'A restore was tried 1 day ago.')
  assert.equal(seen({ to: '1k' }, 'rung'), 'It runs at 10k, and the next rung is 100k.')
  assert.equal(seen({ rung: '100k' }, 'rung'), 'It runs at 100k, and that is the highest rung.')
})

it('a report says what is not known, and guesses nothing', () => {
  const none = { deploysPerWeek: null, failedShare: null, incidentsPerMonth: null, restoreMs: null }
  const empty = {
    ...{ app: 'shop', rung: '1k', today: 20_787, users: {}, rate: undefined, forecast: undefined, cost: undefined },
    ...{ answers: undefined, figures: none, openIncidents: [], findings: [], decisionsDue: [], modules: [] },
    ready: { yes: 3, of: 13 },
    ceiling: { low: 400, likely: 888, high: 1_900, from: 'prior' as const },
    firing: [],
  }
  const text = reportText(empty)
  assert.match(text, /^# shop at rung 1k, 2026-11-30\n/)
  assert.equal(text.match(/not known yet/g)!.length, 14)
  assert.match(text, /\| ceiling, requests\/s \| 888 \(400 to 1,900\), by priors: nothing was measured \|/)
  assert.match(text, /## To do now\n\nNothing\./)
  const alarmed = reportText({ ...empty, firing: ['pool-used'] })
  assert.match(alarmed, /## To do now\n\n- The alert pool-used fires: `rung alerts runbook pool-used`\n/)
  const recorded = { registered: 1_200, daily: 130, monthly: 500 }
  const early = reportText({ ...empty, users: recorded, cost: { low: 100, high: 200, lines: [] } })
  for (const row of [
    '| users of a month, of a day | not known yet, 130 |',
    '| cost for 10,000 users | not known yet |',
  ])
    assert.ok(early.includes(row), `${row} in ${early}`)
  const full = reportText({
    ...empty,
    users: { ...recorded, isWholeMonth: true },
    cost: { low: 100, high: 200, lines: [] },
    answers: { requests: 10_000, failed: 5, p95Ms: 83 },
    figures: { deploysPerWeek: 3.5, failedShare: 0.1, incidentsPerMonth: 1.2, restoreMs: 720_000 },
    openIncidents: ['checkout is slow', '<img src=x> [a](javascript:1)'],
    modules: [{ name: 'orders', owner: 'sales' }],
  })
  for (const row of [
    '| users of a month, of a day | 500, 130 |',
    '| cost for 10,000 users | $2,000–4,000 |',
    '| answers without an error of ours | 99.95 % |',
    '| time to restore | 12 min |',
    '- checkout is slow',
    '- \\<img src=x\\> \\[a\\]\\(javascript:1\\)',
    '- orders: sales',
  ])
    assert.ok(full.includes(row), `${row} in ${full}`)
})
