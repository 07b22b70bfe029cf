import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { openProxy } from '../../../src/chaos/proxy.ts'
import { runAlone } from '../../../src/primitives/data/alone.ts'
import { sql } from '../../../src/primitives/data/sql.ts'
import { eventually, type Thing } from '../../support/cache.ts'
import { bare, type CacheFleet, openFleet, soonMs } from '../../support/cache-fleet.ts'
import { type CacheProcess, type Carried, startCacheNode } from '../../support/cache-process.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { noRedis } from '../../support/redis.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

interface Stage {
  fleet: CacheFleet
  start(parts?: { url?: string; bytesMax?: number }): Promise<CacheProcess>
}

async function withProcesses(body: (stage: Stage) => Promise<void>): Promise<void> {
  const fleet = await openFleet(postgres)
  const started: CacheProcess[] = []
  try {
    await body({
      fleet,
      async start(parts = {}) {
        const one = await startCacheNode({ connection: fleet.connection, url: fleet.redis.url, ...parts })
        started.push(one)
        return one
      },
    })
  } finally {
    for (const one of started) await one.kill()
    await fleet.close()
  }
}

const get = (node: CacheProcess, { name }: Thing, who?: Carried) => node.order<number>({ do: 'get', thing: name }, who)

describe('processes', { skip: noRedis }, () => {
  it('1,000 who ask at once in two processes are one load', () =>
    withProcesses(async ({ fleet, start }) => {
      const [thing] = await fleet.things(1)
      const nodes = await Promise.all([start(), start()])
      for (const node of nodes) await get(node, (await fleet.things(1))[0]!)
      const answers = await Promise.all(
        nodes.map((node) =>
          node.order<{ values: number[]; loads: number }>({ do: 'get-many', thing: thing!.name, count: 500 }),
        ),
      )
      assert.deepEqual(
        answers.map(({ values }) => values),
        [[0], [0]],
      )
      assert.equal(
        answers.reduce((sum, { loads }) => sum + loads, 0),
        1,
      )
    }))

  it('the writer is killed between its commit and the invalidation: the others see it soon', () =>
    withProcesses(async (stage) => {
      const survivor = await stage.fleet.node()
      const cold = await stage.fleet.node(bare)
      const [thing] = await stage.fleet.things(1)
      assert.equal(await thing!.get(survivor), 0)
      assert.equal(await thing!.get(cold), 0)
      const died = await dieAfterCommit(stage, thing!)
      for (const node of [survivor, cold]) {
        await until(async () => (await thing!.get(node)) === 1, 'a survivor sees it')
        assert.ok(performance.now() - died < soonMs, `${performance.now() - died} ms`)
      }
    }))

  it('the writer is killed between its commit and the invalidation, alone: who starts next sees it at once', () =>
    withProcesses(async (stage) => {
      const first = await stage.fleet.node()
      const [thing] = await stage.fleet.things(1)
      assert.equal(await thing!.get(first), 0)
      await first.core.close()
      await dieAfterCommit(stage, thing!)
      assert.equal(await get(await stage.start(), thing!), 1)
    }))

  for (const moment of ['has read', 'row has changed', 'load has ended'] as const) {
    it(`a slow load in another process, Redis killed when its ${moment}`, () =>
      withProcesses(async ({ fleet, start }) => {
        const writer = await fleet.node(bare)
        const [slow, between] = await Promise.all([start(), start({ bytesMax: 1 })])
        const [thing] = await fleet.things(1)
        const loading = slow.order<number>({ do: 'get', thing: thing!.name, hold: 'slow' })
        await slow.held('slow')
        const strike = async (now: string) => {
          if (now !== moment) return
          await fleet.redis.kill()
          await fleet.redis.start()
        }
        await strike('has read')
        await thing!.write(writer)
        await strike('row has changed')
        for (const node of [between, slow]) {
          const who: Carried = { position: [] }
          await node.order({ do: 'write', thing: thing!.name }, who)
          const version = await thing!.load(writer)
          assert.equal(await get(between, thing!, who), version)
        }
        await slow.order({ do: 'let-go', hold: 'slow' })
        await loading
        await strike('load has ended')
        const truth = await thing!.load(writer)
        for (const node of [slow, between]) await eventually(async () => assert.equal(await get(node, thing!), truth))
        assert.equal(await thing!.get(await fleet.node(bare)), truth)
      }))
  }

  it('a process that is stopped in the middle of a load harms nobody when it goes on', () =>
    withProcesses(async ({ fleet, start }) => {
      const node = await fleet.node(bare)
      const [thing] = await fleet.things(1)
      const paused = await start()
      const loading = paused.order<number>({ do: 'get', thing: thing!.name, hold: 'slow' })
      await paused.held('slow')
      process.kill(paused.pid, 'SIGSTOP')
      await thing!.write(node)
      const letGo = paused.order({ do: 'let-go', hold: 'slow' })
      process.kill(paused.pid, 'SIGCONT')
      await letGo
      assert.equal(await loading, 0)
      assert.equal(await thing!.get(node), 1)
      await eventually(async () => assert.equal(await get(paused, thing!), 1))
    }))
})

/** What the writer says to Redis after its commit is lost, and then it is killed. Gives when it had committed. */
async function dieAfterCommit({ fleet, start }: Stage, thing: Thing): Promise<number> {
  const proxy = await openProxy({ port: fleet.redis.port, host: '127.0.0.1' })
  const writer = await start({ url: fleet.redis.url.replace(`:${fleet.redis.port}`, `:${proxy.port}`) })
  assert.equal(await get(writer, thing), 0)
  proxy.set({ blackHole: true })
  writer.order({ do: 'write', thing: thing.name }).catch(() => {})
  // No node watches: it would follow the log and tell Redis.
  const changed = sql`select from m.thing where name = ${thing.name} and version = 1`
  await until(async () => (await runAlone(fleet.database, changed)).length === 1, 'it has committed')
  const committed = performance.now()
  await writer.kill()
  proxy.close()
  return committed
}
