import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { killMesh, type MeshFleet, openMeshFleet } from '../../support/mesh-kills.ts'
import { noNats } from '../../support/nats.ts'

/** Each death once; `bench/kills-events.ts` kills 200 times over a million events. */
it('loses and doubles nothing, and keeps the order of keys, while broker, workers and database are killed', {
  skip: noNats,
}, async (t) => {
  const told = await killMesh(fleet, 11, 6_000)
  t.diagnostic(told)
  assert.match(told, /0 lost, 0 doubled/)
})

let fleet: MeshFleet
before(async () => {
  if (!noNats) fleet = await openMeshFleet()
})
after(() => fleet?.close())
