import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { isRungError, RungError } from '../../src/kernel/errors.ts'
import { covers, nowhere, type Position } from '../../src/kernel/position.ts'
import { currentScope } from '../../src/kernel/scope.ts'
import type { CacheOptions } from '../../src/primitives/cache/cache.ts'
import { defineKey } from '../../src/primitives/cache/keys.ts'
import {
  type CacheNode,
  type CacheUnderTest,
  eventually,
  gate,
  getPage,
  openThing,
  runSchedules,
  session,
} from '../support/cache.ts'

/** What the cache keeps on every combination of adapters. */
export function cacheContract(name: string, open: () => Promise<CacheUnderTest>): void {
  describe(`cache contract: ${name}`, () => {
    let under: CacheUnderTest
    let one: CacheNode
    let other: CacheNode
    before(async () => {
      under = await open()
      ;[one, other] = under.nodes
    })
    after(() => under.close())

    const fresh = () => `k-${randomUUID()}`
    const hour = { ttl: '1h' } as const

    const thing = () => openThing(one)

    it('a value is loaded once and then found, with its type kept as JSON', async () => {
      const key = fresh()
      let loads = 0
      const load = async () => {
        loads += 1
        return { at: new Date(0), list: [1, 2], none: null }
      }
      const first = await one.cache.get(key, hour, load)
      const second = await one.cache.get(key, hour, load)
      assert.equal(loads, 1)
      assert.deepEqual(first, { at: '1970-01-01T00:00:00.000Z', list: [1, 2], none: null })
      assert.equal(first, second, 'a hit is no copy')
      assert.throws(() => (first.list as number[]).push(3), TypeError)
    })

    it('modules have keys and tags of their own', async () => {
      const key = fresh()
      const elsewhere = one.core.forModule('elsewhere', one.data.write)
      assert.equal(await one.cache.get(key, { ttl: '1h', tags: ['t'] }, () => 'mine'), 'mine')
      assert.equal(await elsewhere.get(key, { ttl: '1h', tags: ['t'] }, () => 'theirs'), 'theirs')
      await one.cache.invalidate(['t'])
      assert.equal(await elsewhere.get(key, hour, () => 'again'), 'theirs')
      assert.equal(await one.cache.get(key, hour, () => 'again'), 'again')
    })

    it('keys of different parts are different', async () => {
      const make = defineKey<string, [string, string]>('two')
      const texts = [
        make('a', 'b:c'),
        make('a:b', 'c'),
        make('a"b', 'c'),
        make('a', '"b"c'),
        make('', 'a:b:c'),
        make('a%3ab', 'c'),
      ].map(({ text }) => text)
      assert.equal(new Set(texts).size, texts.length)
      const long = 'x'.repeat(10_000)
      const values = await Promise.all(['1', '2'].map((end) => one.cache.get(make(long, end), hour, () => end)))
      assert.deepEqual(values, ['1', '2'])
    })

    it('a thousand who ask at once are one load', async () => {
      const key = fresh()
      const { open, opened } = gate()
      let loads = 0
      const all = Array.from({ length: 1_000 }, () =>
        one.cache.get(key, hour, async () => {
          loads += 1
          await opened
          return loads
        }),
      )
      open()
      assert.deepEqual(new Set(await Promise.all(all)), new Set([1]))
    })

    it('nothing found is a value too, for a short time', async () => {
      const key = fresh()
      let loads = 0
      const load = () => {
        loads += 1
        return undefined
      }
      assert.equal(await one.cache.get(key, hour, load), undefined)
      assert.equal(await one.cache.get(key, hour, load), undefined)
      assert.equal(loads, 1)
      const brief = fresh()
      await one.cache.get(brief, { ttl: '1h', absentTtl: 0 }, load)
      await one.cache.get(brief, { ttl: '1h', absentTtl: 0 }, load)
      assert.equal(loads, 3)
    })

    it('a failure reaches all who wait, and is not kept unless asked for', async () => {
      const key = fresh()
      let loads = 0
      const fail = async () => {
        loads += 1
        throw new RungError('HTTP_NOT_FOUND', `not there, try ${loads}`)
      }
      const waiting = await Promise.allSettled([one.cache.get(key, hour, fail), one.cache.get(key, hour, fail)])
      assert.deepEqual(
        waiting.map((outcome) => outcome.status === 'rejected' && isRungError(outcome.reason, 'HTTP_NOT_FOUND')),
        [true, true],
      )
      assert.equal(loads, 1)
      await assert.rejects(one.cache.get(key, { ...hour, errorTtl: '1h' }, fail), /try 2/)
      await assert.rejects(one.cache.get(key, { ...hour, errorTtl: '1h' }, fail), /try 2/)
    })

    it('in its grace a value is given out while it is loaded anew', async () => {
      const key = fresh()
      const options = { ttl: 0, grace: '1h' } as const
      const { open, opened } = gate()
      assert.equal(await one.cache.get(key, options, () => 'old'), 'old')
      const loading = async () => {
        await opened
        return 'new'
      }
      assert.equal(await one.cache.get(key, options, loading), 'old')
      const waits = one.cache.get(key, { ...options, softTimeout: '1h' }, loading)
      open()
      assert.equal(await waits, 'new')
    })

    it('in its grace a value stands in for a load that fails', async () => {
      const key = fresh()
      assert.equal(await one.cache.get(key, { ttl: 0, grace: '1h' }, () => 'old'), 'old')
      const failing = () => Promise.reject(new Error('down'))
      assert.equal(await one.cache.get(key, { ttl: 0, grace: '1h', softTimeout: '1h' }, failing), 'old')
    })

    it('what a function gives is kept by its arguments', async () => {
      const [name, mark] = [`f-${randomUUID().slice(0, 8)}`, fresh()]
      const loads: string[] = []
      const greet = one.cache.cached(
        name,
        { ttl: '1h', tags: (_value, whom: string, times: number) => [`${mark}:${whom}:${times}`] },
        async (whom: string, times: number) => {
          loads.push(`${whom} ${times}`)
          return { text: `Hello ${whom}`.repeat(times) }
        },
      )
      assert.equal((await greet('Ann', 2)).text, 'Hello AnnHello Ann')
      assert.equal(await greet('Ann', 2), await greet('Ann', 2))
      await greet('Ann', 1)
      await one.cache.invalidate([`${mark}:Ann:2`])
      await greet('Ann', 1)
      await greet('Ann', 2)
      assert.deepEqual(loads, ['Ann 2', 'Ann 1', 'Ann 2'])
    })

    it('what is made of entries is good as long as they are', async () => {
      const [first, second, aside] = [await thing(), await thing(), await thing()]
      const page = (node: CacheNode) => getPage(node, [first, second])
      await second.get(one) // one that is kept already, and one that is loaded for it
      for (const node of under.nodes) assert.deepEqual(await page(node), [0, 0])
      const kept = await page(one)
      await aside.write(one)
      assert.equal(await page(one), kept)
      await second.write(one)
      assert.deepEqual(await page(one), [0, 1])
      await eventually(async () => assert.deepEqual(await page(other), [0, 1]))
      await first.write(other)
      assert.deepEqual(await page(other), [1, 1])
      await eventually(async () => assert.deepEqual(await page(one), [1, 1]))
    })

    it('a load that takes too long is ended', async () => {
      let signal: AbortSignal | undefined
      const load = one.cache.get(fresh(), { ttl: '1h', hardTimeout: 20 }, (context) => {
        signal = context.signal
        return new Promise(() => {})
      })
      await assert.rejects(load, (error) => isRungError(error, 'CACHE_LOAD_TIMEOUT'))
      assert.equal(signal?.aborted, true)
    })

    it('after an invalidation its own node has the new value at once', async () => {
      const { get, write } = await thing()
      assert.equal(await get(one), 0)
      await write(one)
      assert.equal(await get(one), 1)
    })

    it('an invalidation outside of a transaction is one of its own', async () => {
      const key = fresh()
      await one.cache.get(key, { ttl: '1h', tags: [key] }, () => 1)
      await one.cache.invalidate([key])
      assert.equal(await one.cache.get(key, { ttl: '1h', tags: [key] }, () => 2), 2)
    })

    it('after a rollback nothing is invalidated', async () => {
      const { get, write } = await thing()
      const kept = await get(one)
      await assert.rejects(write(one, { fails: true }), /rolled back/)
      assert.equal(await get(one, () => Promise.resolve(99)), kept)
    })

    it('in a transaction the value is loaded with what it has written, and nothing is kept', async () => {
      const { get, name } = await thing()
      await get(one)
      const inside = one.data.write(async (tx) => {
        await tx`update m.thing set version = 7 where name = ${name}`
        assert.equal(await get(one), 7)
        throw new Error('rolled back')
      })
      await assert.rejects(inside, /rolled back/)
      assert.equal(await get(one), 0)
    })

    it('tags that are known from the value', async () => {
      const [key, tag] = [fresh(), fresh()]
      const options: CacheOptions<{ id: string }> = { ttl: '1h', tags: ({ id }) => [id] }
      await one.cache.get(key, options, () => ({ id: tag }))
      await one.cache.invalidate([tag])
      let loads = 0
      const load = () => {
        loads += 1
        return { id: tag }
      }
      await one.cache.get(key, options, load)
      await one.cache.get(key, options, load)
      await one.cache.get(key, options, load)
      assert.ok(loads >= 1 && loads <= 2, `${loads} loads`) // a shared layer learns of the tag with the first
    })

    it('many at once: those that are missing are loaded together', async () => {
      const prefix = fresh()
      const asked: string[][] = []
      const get = (ids: string[]) =>
        one.cache.getMany(
          ids,
          { ttl: '1h', key: (id) => `${prefix}-${id}`, tags: (id) => [`${prefix}-${id}`] },
          async (missing) => {
            asked.push([...missing])
            return missing.map((id) => id.toUpperCase())
          },
        )
      assert.deepEqual(await get(['a', 'b']), ['A', 'B'])
      assert.deepEqual(await get(['b', 'c', 'a', 'd']), ['B', 'C', 'A', 'D'])
      assert.deepEqual(asked.flat().sort(), ['a', 'b', 'c', 'd'])
      await one.cache.invalidate([`${prefix}-b`])
      assert.deepEqual(await get(['a', 'b', 'c']), ['A', 'B', 'C'])
      assert.deepEqual(asked.at(-1), ['b'])
    })

    it('bad keys and tags are refused', async () => {
      const invalid = (error: unknown) => isRungError(error, 'CACHE_INVALID')
      await assert.rejects(async () => one.cache.get('', hour, () => 1), invalid)
      await assert.rejects(async () => one.cache.get('k', { ttl: '1h', tags: [''] }, () => 1), invalid)
      const many = Array.from({ length: 251 }, (_, n) => `t${n}`)
      await assert.rejects(async () => one.cache.get('k', { ttl: '1h', tags: many }, () => 1), invalid)
      assert.throws(
        () => defineKey('No Name'),
        (error) => isRungError(error, 'APP_INVALID'),
      )
    })

    for (const [where, from, to] of [
      ['in one process', 0, 0],
      ['in two processes', 0, 1],
    ] as const) {
      describe(`a slow load and an invalidation ${where}`, () => {
        it('the old value is given to nobody who comes after', async () => {
          const { get, load, write } = await thing()
          const { open, opened } = gate()
          const { open: began, opened: hasRead } = gate()
          const slow = get(under.nodes[to], async (node) => {
            const value = await load(node)
            began()
            await opened
            return value
          })
          await hasRead
          const who = session()
          await who(() => write(under.nodes[from]))
          const between = await who(() => get(under.nodes[to]))
          open()
          await slow
          const after = await who(() => get(under.nodes[to]))
          assert.deepEqual([between, after], [1, 1])
          await eventually(async () => assert.equal(await get(under.nodes[to]), 1))
        })

        it('a transaction that commits late', async () => {
          const { get, write } = await thing()
          const reader = under.nodes[to]
          const { open, opened } = gate()
          const who = session()
          const writing = who(() => write(under.nodes[from], { before: opened }))
          await one.cache.invalidate(['something-else']) // later rows of the log are there earlier
          assert.equal(await get(reader), 0)
          open()
          await writing
          assert.equal(await who(() => get(reader)), 1)
        })
      })
    }

    it('a session sees what it wrote on the other node, and has seen it for good', async () => {
      const things = await Promise.all(Array.from({ length: 10 }, thing))
      for (const { get } of things) await Promise.all([get(one), get(other)])
      const who = session()
      for (let round = 1; round <= 20; round += 1) {
        for (const { get, write } of things) {
          const [writer, reader] = round % 2 === 0 ? [one, other] : [other, one]
          const version = await who(() => write(writer))
          assert.equal(await who(() => get(reader)), version)
          assert.equal(await who(() => get(writer)), version)
        }
      }
    })

    it('others see it soon', async () => {
      const { get, write } = await thing()
      await Promise.all([get(one), get(other)])
      await write(one)
      await eventually(async () => assert.equal(await get(other), 1))
    })

    it('an entry without tags is not shown to who has written since', async () => {
      const key = fresh()
      const { write } = await thing()
      await one.cache.get(key, hour, () => 'before')
      const who = session()
      await who(() => write(other))
      assert.equal(await who(() => one.cache.get(key, hour, () => 'after')), 'after')
      assert.equal(await who(() => one.cache.get(key, hour, () => 'again')), 'after')
    })

    it('a load from a delayed replica reads beyond the last invalidation of its tags', async () => {
      const { get, load, write } = await thing()
      const replica = { position: nowhere as Position, version: 0 }
      const read = async (node: CacheNode) =>
        covers(replica.position, currentScope()?.position ?? nowhere) ? replica.version : load(node)
      assert.equal(await get(one, read), 0)
      await write(other)
      await eventually(async () => assert.equal(await get(one, read), 1))
      assert.equal(await other.cache.get(fresh(), { ttl: '1h', tags: ['unrelated'] }, () => 5), 5)
    })

    it('after random schedules of loads, writes and invalidations nobody has seen a value older than allowed', () =>
      runSchedules(under.nodes, { from: 1, to: 100 })) // bench/schedules.ts: thousands
  })
}
