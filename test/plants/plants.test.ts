import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, suite, test } from 'node:test'
import { checkHistory } from '../../src/history.ts'
import { seededRandom, shuffled } from '../../src/kernel/random.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { noRedis } from '../support/redis.ts'
import { type Plant, planted } from './plant.ts'
import { plants } from './plants.ts'
import { runPlant, runSound } from './runner.ts'
import { type WorkloadName, workloads } from './workload.ts'

const plantsOfARun = 5
/** Of each: it would be a miss in the bench, which has a minute. */
const historiesMax = 30

test('each plant fits its source once, changes it, and names checkers that there are', () => {
  const checkers = new Set(checkHistory([]).map(({ checker }) => checker))
  for (const plant of plants) {
    assert.notEqual(planted(plant), undefined, plant.name)
    assert.notEqual(plant.find, plant.replace, plant.name)
    assert.deepEqual(
      plant.caughtBy.filter((checker) => !checkers.has(checker)),
      [],
      plant.name,
    )
  }
  assert.equal(new Set(plants.map(({ name }) => name)).size, plants.length)
})

suite('with real engines', { skip: noRedis }, () => {
  let postgres: TestPostgres
  before(async () => {
    postgres = await testPostgres()
  })
  after(() => postgres.stop())

  for (const plant of chosen())
    test(`${plant.name} is found by ${plant.caughtBy.join(' or ')}`, async () => {
      const { isCaught, reports } = await runPlant(plant, postgres, { seeds: historiesMax })
      assert.ok(isCaught, `not in ${reports.length} histories; found was ${JSON.stringify(reports.at(-1)?.found)}`)
    })

  for (const workload of Object.keys(workloads) as WorkloadName[])
    test(`nothing is found on the sound build: ${workload}`, async () => {
      const { reports } = await runSound(workload, 1, postgres)
      assert.equal(reports.length, 1)
      const [{ found, checked }] = reports as [(typeof reports)[0]]
      assert.deepEqual(found, [])
      for (const [checker, count] of Object.entries(checked)) assert.ok(count > 0, `${checker} had nothing to check`)
    })
})

/** Others with each commit, or those that `RUNG_TEST_PLANTS=a,b` names. */
function chosen(): readonly Plant[] {
  const asked = process.env.RUNG_TEST_PLANTS?.split(',')
  const names =
    asked ??
    shuffled(plants, seededRandom(numberOfCommit()))
      .slice(0, plantsOfARun)
      .map(({ name }) => name)
  console.log(`RUNG_TEST_PLANTS=${names.join()}`)
  return names.map((name) => {
    const plant = plants.find((one) => one.name === name)
    if (!plant) throw new Error(`There is no plant "${name}".`)
    return plant
  })
}

function numberOfCommit(): number {
  try {
    const head = execFileSync('git', ['rev-parse', 'HEAD'], {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return Number.parseInt(head.toString().slice(0, 8), 16)
  } catch {
    const list = readFileSync(path.join(import.meta.dirname, 'plants.ts'))
    return createHash('sha256').update(list).digest().readUInt32BE()
  }
}
