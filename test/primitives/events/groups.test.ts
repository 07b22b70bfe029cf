import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { groupLags, groupViews } from '../../../src/primitives/events/groups.ts'
import { type MeshUnderTest, openMesh } from '../../support/mesh.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let mesh: MeshUnderTest
before(async () => {
  postgres = await testPostgres()
  mesh = await openMesh(postgres, undefined)
})
after(async () => {
  await mesh.close()
  await postgres.stop()
})

it('tells how many events each group is behind, and nothing of groups that take none from a log', async () => {
  const { log, queue, database } = mesh
  await mesh.subscribe('slow')
  await mesh.publish(1, 2)
  while ((await log.number(100)) > 0);
  await mesh.subscribe('fresh')
  await mesh.publish(3)
  const logs = [{ name: database.name, log }]
  const lags = await groupLags(logs)
  assert.deepEqual(
    lags.map(({ group, behind }) => [group, behind]),
    [
      ['fresh', 1],
      ['slow', 3],
    ],
  )
  const views = await groupViews(queue, log, lags)
  assert.deepEqual(
    views.map(({ group, events, behind }) => [group, events, behind]),
    [
      ['fresh', ['happened'], 1],
      ['slow', ['happened'], 3],
    ],
  )
  assert.equal((await groupViews(queue, log))[0]!.behind, null)
  // A database that is away is left out.
  const away = { name: 'away', log: { ...log, marks: () => Promise.reject(new Error('away')) } }
  assert.equal((await groupLags([...logs, away])).length, 2)
})
