import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { checkHistory, createRecorder, type Recorder } from '../../../src/history.ts'
import { session, type Thing } from '../../support/cache.ts'
import { bare, type CacheFleet, openFleet } from '../../support/cache-fleet.ts'
import { type CacheProcess, type Carried, startCacheNode } from '../../support/cache-process.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { noRedis } from '../../support/redis.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

/** Of nodes that hear no signals, so that each is late by up to 200 ms. Those who read there do not write. */
describe('what others have written', { skip: noRedis }, () => {
  it('is seen for good by who reads it at one process and then at another', async () => {
    const fleet = await openFleet(postgres)
    const processes: CacheProcess[] = []
    try {
      const parts = { connection: fleet.connection, url: fleet.redis.url, deaf: true }
      for (const more of [{}, bare]) processes.push(await startCacheNode({ ...parts, ...more }))
      // One has what was before in its memory. The other asks Redis, which was told, and loads what it has not heard of.
      const [late, bold] = processes
      const recorder = createRecorder()
      const reads = async (node: CacheProcess, { name }: Thing, number: number, who: Carried) => {
        const by = { session: `${number}`, key: name, node: node === late ? 'late' : 'bold', cached: true }
        const reading = recorder.begin({ kind: 'read', ...by })
        reading.ok({ version: await node.order<number>({ do: 'get', thing: name }, who) })
      }
      const turns = 20
      const [aside] = await fleet.things(1)
      await overTurns(fleet, recorder, turns, async (thing, number) => {
        await reads(late!, thing, -number, { position: [] })
        // By then each position that a reader could have had so far is known to be applied: a session at one of them causes no look.
        for (let round = 0; round < 2; round += 1) {
          const who: Carried = { position: [] }
          await late!.order({ do: 'write', thing: aside!.name }, who)
          for (const node of [late!, bold!]) await node.order({ do: 'get', thing: aside!.name }, who)
        }
        return async () => {
          const who: Carried = { position: [] }
          for (const node of [bold!, late!, bold!]) await reads(node, thing, number, who)
        }
      })
      assertMonotonic(recorder, 4 * turns)
    } finally {
      for (const one of processes) await one.kill()
      await fleet.close()
    }
  })

  it('is seen for good by who reads it at a process that has just begun', async () => {
    const fleet = await openFleet(postgres)
    try {
      const late = await fleet.node({ deaf: true })
      const recorder = createRecorder()
      const turns = 5
      await overTurns(fleet, recorder, turns, async (thing, number) => {
        await thing.get(late)
        return async () => {
          const fresh = await fleet.node({ deaf: true })
          const who = session()
          for (const node of [fresh, late]) {
            const by = { session: `${number}`, key: thing.name, node: node === late ? 'late' : `fresh ${number}` }
            const reading = recorder.begin({ kind: 'read', ...by, cached: true })
            reading.ok({ version: await who(() => thing.get(node)) })
          }
        }
      })
      assertMonotonic(recorder, 2 * turns)
    } finally {
      await fleet.close()
    }
  })
})

/** Each turn prepares, then somebody writes, and then what was prepared is done. */
async function overTurns(
  fleet: CacheFleet,
  recorder: Recorder,
  turns: number,
  prepare: (thing: Thing, number: number) => Promise<() => Promise<void>>,
): Promise<void> {
  const writer = await fleet.node()
  const [thing] = await fleet.things(1)
  for (let number = 1; number <= turns; number += 1) {
    const act = await prepare(thing!, number)
    const writing = recorder.begin({ kind: 'write', session: 'writer', key: thing!.name })
    writing.ok({ version: await thing!.write(writer) })
    await act()
  }
}

function assertMonotonic(recorder: Recorder, reads: number): void {
  const verdicts = checkHistory(recorder.operations()).filter(({ checked }) => checked > 0)
  assert.deepEqual(
    verdicts.flatMap(({ anomalies }) => anomalies.map(({ text }) => text)),
    [],
  )
  assert.equal(verdicts.find(({ checker }) => checker === 'monotonic-reads')?.checked, reads)
}
