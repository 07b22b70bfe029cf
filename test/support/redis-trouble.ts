import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import { openProxy } from '../../src/chaos/proxy.ts'
import { createRecorder } from '../../src/history.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { assertKept, eventually, schedule } from './cache.ts'
import { bare, openFleet, untilReady, untilUp } from './cache-fleet.ts'
import type { TestPostgres } from './postgres.ts'
import { patientRedis } from './redis.ts'

const seed = 20_262

/**
 * Runs random schedules on nodes that share a Redis, while Redis is killed, hung, cut off, slow, full and emptied in turn.
 * @param strikes how often something happens to Redis
 * @returns what happened, in one sentence
 * @throws AssertionError when somebody does not see their own write, or the nodes do not agree in the end
 */
export async function troubleRedis(postgres: TestPostgres, strikes: number): Promise<string> {
  const fleet = await openFleet(postgres)
  const { redis } = fleet
  const proxy = await openProxy({ port: redis.port, host: '127.0.0.1' })
  const url = redis.url.replace(`:${redis.port}`, `:${proxy.port}`)
  const nodes = [await fleet.node({ url }), await fleet.node({ url, ...bare }), await fleet.node({ url, deaf: true })]
  const things = await fleet.things(4)
  const random = seededRandom(seed)
  const counts: Record<string, number> = {}
  let ended = false

  async function tell(...command: string[]): Promise<void> {
    const admin = await patientRedis(redis.url)
    await admin.call(command[0]!, ...command.slice(1)).finally(() => admin.close())
  }
  const acts: Record<string, () => Promise<void>> = {
    async killed() {
      await redis.kill()
      await wait(random() * 100)
      await redis.start()
      await untilReady(fleet)
    },
    async old() {
      await tell('SAVE')
      await wait(random() * 100)
      await acts.killed!()
    },
    async hung() {
      redis.hang()
      await wait(random() * 400)
      redis.goOn()
    },
    async blackHole() {
      proxy.set({ blackHole: true })
      await wait(random() * 300)
      proxy.heal()
    },
    async slow() {
      proxy.set({ latencyMs: random() * 150 })
      await wait(random() * 200)
      proxy.set({})
    },
    async sliced() {
      proxy.set({ sliceBytes: 1 + Math.floor(random() * 20), jitterMs: 3 })
      await wait(random() * 200)
      proxy.set({})
    },
    cut: async () => proxy.cut(),
    reset: async () => proxy.reset(),
    flushed: () => tell('FLUSHALL'),
    async full() {
      await tell('CONFIG', 'SET', 'maxmemory', '1', 'maxmemory-policy', random() < 0.5 ? 'noeviction' : 'allkeys-lfu')
      await wait(random() * 200)
      await tell('CONFIG', 'SET', 'maxmemory', '0')
    },
  }

  async function strike(): Promise<void> {
    const names = Object.keys(acts)
    for (let n = 0; n < strikes; n += 1) {
      const name = names[n < names.length ? n : Math.floor(random() * names.length)]!
      counts[name] = (counts[name] ?? 0) + 1
      await acts[name]!()
      await wait(random() * 300)
      if (n % 4 === 3) await untilUp(nodes)
    }
    ended = true
  }

  const recorder = createRecorder()
  let schedules = 0
  async function work(): Promise<void> {
    while (!ended) {
      schedules += 1
      await schedule(seed + schedules, things, nodes, recorder)
    }
  }

  try {
    await Promise.all([strike(), work(), work()])
    await untilUp(nodes)
    const newcomer = await fleet.node(bare)
    for (const thing of things) {
      const truth = await thing.load(newcomer)
      for (const node of [...nodes, newcomer]) await eventually(async () => assert.equal(await thing.get(node), truth))
    }
    assertKept(recorder)
    return `${schedules} schedules of 12 steps, own writes missed: 0; ${JSON.stringify(counts)}`
  } finally {
    ended = true
    await fleet.close()
    proxy.close()
  }
}
