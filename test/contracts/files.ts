import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { isRungError } from '../../src/kernel/errors.ts'
import type { Content, FileStore, Range } from '../../src/primitives/files/contract.ts'
import { checkedKey } from '../../src/primitives/files/keys.ts'

export interface OpenStore {
  store: FileStore
  close(): Promise<unknown>
}

/** What every adapter of the files primitive keeps. `open` gives an empty store. */
export function filesContract(name: string, open: () => Promise<OpenStore>, skip: string | false = false): void {
  describe(`files contract: ${name}`, { skip }, () => {
    let opened: OpenStore
    let store: FileStore
    before(async () => {
      opened = await open()
      store = opened.store
    })
    after(() => opened.close())

    async function read(key: string, range?: Range): Promise<Buffer | undefined> {
      const file = await store.get(key, range)
      return file && Buffer.concat(await file.body.toArray())
    }
    async function keys(prefix: string): Promise<string[]> {
      return (await store.list(prefix, undefined, 1000)).files.map(({ key }) => key)
    }
    const put = (key: string, bytes: Uint8Array | string) => store.put(key, contentOf([Buffer.from(bytes)]), false)

    it('keeps the bytes and their facts', async () => {
      const bytes = randomBytes(300_000)
      const given = contentOf([bytes.subarray(0, 1), bytes.subarray(1, 200_000), bytes.subarray(200_000)])
      const info = await store.put('m/a.bin', given, false)
      const { body, range, ...facts } = (await store.get('m/a.bin'))!
      assert.deepEqual(Buffer.concat(await body.toArray()), bytes)
      assert.deepEqual(range, { start: 0, end: 299_999 })
      const { modifiedAt, ...rest } = facts
      const { contentType, metadata } = given
      assert.deepEqual(rest, { key: 'm/a.bin', size: 300_000, sha256: sha256(bytes), contentType, metadata })
      assert.ok(Math.abs(modifiedAt.getTime() - info.modifiedAt.getTime()) <= 2000) // whole seconds, of two answers
      assert.ok(Math.abs(modifiedAt.getTime() - Date.now()) < 60_000)
      assert.deepEqual({ ...(await store.stat('m/a.bin')), modifiedAt }, facts)
    })

    it('keeps an empty content', async () => {
      await put('m/empty', '')
      assert.equal((await store.stat('m/empty'))?.size, 0)
      assert.deepEqual(await read('m/empty'), Buffer.alloc(0))
    })

    it('gives any part', async () => {
      await put('m/part', '0123456789')
      const parts: [Range, string][] = [
        [{ start: 0, end: 0 }, '0'],
        [{ start: 3 }, '3456789'],
        [{ start: 2, end: 4 }, '234'],
        [{ start: 8, end: 99 }, '89'],
        [{ start: -3 }, '789'],
        [{ start: -99 }, '0123456789'],
      ]
      for (const [range, text] of parts) assert.equal(String(await read('m/part', range)), text)
      await assert.rejects(store.get('m/part', { start: 10 }), (error) => isRungError(error, 'FILES_RANGE'))
    })

    it('replaces content and facts together, and who reads goes on with what he has', async () => {
      const old = randomBytes(1_000_000)
      await put('m/replaced', old)
      const reading = (await store.get('m/replaced'))!
      await put('m/replaced', 'new')
      assert.equal(sha256(Buffer.concat(await reading.body.toArray())), reading.sha256)
      assert.equal(String(await read('m/replaced')), 'new')
      assert.equal((await store.stat('m/replaced'))?.sha256, sha256('new'))
    })

    it('has nothing of what is not there, and deletes it without complaint', async () => {
      assert.equal(await store.get('m/nothing'), undefined)
      assert.equal(await store.stat('m/nothing'), undefined)
      await store.delete('m/nothing')
      await put('m/gone', 'x')
      await store.delete('m/gone')
      assert.equal(await store.stat('m/gone'), undefined)
      assert.deepEqual(await keys('m/gone'), [])
    })

    it('stores nothing when the content fails, and keeps what was there', async () => {
      const failure = new Error('the source broke')
      await put('m/kept', 'before')
      for (const key of ['m/kept', 'm/never/was']) {
        await assert.rejects(store.put(key, contentOf([randomBytes(100_000), failure]), false), (error) =>
          isRungError(error) ? error.cause === failure : error === failure,
        )
      }
      assert.equal(String(await read('m/kept')), 'before')
      assert.equal(await store.stat('m/never/was'), undefined)
      assert.deepEqual(await keys('m/never'), [])
    })

    it('lets one of many win where the key must be absent', async () => {
      const writers = Array.from({ length: 8 }, (_, n) => store.put('m/once', contentOf([Buffer.from(`${n}`)]), true))
      const outcomes = await Promise.allSettled(writers)
      const won = outcomes.findIndex(({ status }) => status === 'fulfilled')
      assert.equal(String(await read('m/once')), `${won}`)
      for (const [n, outcome] of outcomes.entries()) {
        if (n !== won) assert.ok(outcome.status === 'rejected' && isRungError(outcome.reason, 'FILES_EXISTS'))
      }
    })

    it('keeps keys apart that a file system may confuse', async () => {
      const alike = ['c/A', 'c/a', 'c/a/b', 'c/a.', 'c/A/b', 'c/ä', 'c/a+', 'c/a~', 'c/%41', 'c/.a', 'c/con', 'c/a ']
      for (const key of alike) await put(key, key)
      for (const key of alike) assert.equal(String(await read(key)), key)
      assert.deepEqual(await keys('c/'), byBytes(alike))
      await store.delete('c/a')
      assert.equal(String(await read('c/a/b')), 'c/a/b')
    })

    it('lists in the order of bytes, page by page', async () => {
      const all = [
        'l/a-b',
        'l/a/b',
        'l/a0',
        'l/a/b/c',
        'l/b',
        'l/ab',
        'l/\u{1f600}',
        'l/\uff5e',
        `l/${'x'.repeat(250)}/y`,
      ]
      all.push(...[`l/${'x'.repeat(200)}`, `l/${'x'.repeat(200)}-`, `l/${'x'.repeat(200)}/a`, `l/${'x'.repeat(200)}0`])
      for (const key of [...all, 'k/z', 'm/z']) await put(key, key)
      const order = byBytes(all)
      for (const limit of [1, 2, 5, 100]) {
        const seen: string[] = []
        for (let last: string | undefined; ; last = seen.at(-1)) {
          const { files, more } = await store.list('l/', last, limit)
          seen.push(...files.map(({ key }) => key))
          assert.ok(files.length === limit || !more)
          if (!more) break
        }
        assert.deepEqual(seen, order)
      }
      assert.deepEqual(
        await keys('l/a'),
        order.filter((key) => key.startsWith('l/a')),
      )
      assert.deepEqual(await keys('l/a/'), ['l/a/b', 'l/a/b/c'])
      assert.deepEqual(await keys('l'), order)
      assert.equal((await store.list('l/b', undefined, 1)).files[0]?.size, 3)
    })

    it('takes every key that the policy takes', async () => {
      const part = fc.string({ unit: 'binary', minLength: 1, maxLength: 80 })
      const key = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'))
      const valid = key.filter((text) => {
        try {
          return checkedKey(text) === text
        } catch {
          return false
        }
      })
      await fc.assert(
        fc.asyncProperty(fc.uniqueArray(valid, { minLength: 1, maxLength: 6 }), async (some) => {
          const full = some.map((one) => `f/${one}`)
          for (const one of full) await put(one, one)
          assert.deepEqual(await keys('f/'), byBytes(full))
          for (const one of full) assert.equal(String(await read(one)), one)
          for (const one of full) await store.delete(one)
          assert.deepEqual(await keys('f/'), [])
        }),
        { numRuns: 100 },
      )
    })

    it('survives writers and deleters of one key and its neighbours', async () => {
      const some = ['w/a/b/c', 'w/a/b/d', 'w/a/e']
      await Promise.all(
        Array.from({ length: 60 }, async (_, n) => {
          const key = some[n % some.length]!
          await put(key, key)
          if (n % 2 === 0) await store.delete(key)
        }),
      )
      for (const key of some) await put(key, key)
      assert.deepEqual(await keys('w/'), some)
      for (const key of some) assert.equal(String(await read(key)), key)
    })
  })
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function contentOf(steps: readonly (Uint8Array | Error)[]): Content {
  const hash = createHash('sha256')
  return {
    contentType: 'application/octet-stream',
    metadata: { by: 'Ann "Ä" \u{1f600}' },
    async *[Symbol.asyncIterator]() {
      for (const step of steps) {
        if (step instanceof Error) throw step
        hash.update(step)
        const chunk = Buffer.from(step)
        yield chunk
        chunk.fill(0) // whoever keeps it has nothing
      }
    },
    sha256: () => hash.copy().digest('hex'),
  }
}

function byBytes(keys: readonly string[]): string[] {
  return [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}
