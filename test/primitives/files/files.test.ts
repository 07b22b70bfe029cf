import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { type ErrorCode, isRungError, RungError } from '../../../src/kernel/errors.ts'
import { keysOf } from '../../../src/kernel/keys.ts'
import { runInScope, Scope } from '../../../src/kernel/scope.ts'
import type { Source } from '../../../src/primitives/files/content.ts'
import { diskFiles } from '../../../src/primitives/files/disk.ts'
import { createFiles, type Files, type FilesRoot } from '../../../src/primitives/files/files.ts'
import { keyBytesMax } from '../../../src/primitives/files/keys.ts'
import { withTempDir } from '../../support/postgres.ts'

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)
const coded = (code: ErrorCode) => (error: unknown) => isRungError(error, code)
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex')

describe('files', () => {
  let dir: string
  let root: FilesRoot
  let files: Files
  const { promise: finished, resolve: finish } = Promise.withResolvers<void>()
  let removed: Promise<void>
  before(async () => {
    const { promise: opened, resolve } = Promise.withResolvers<void>()
    removed = withTempDir(async (made) => {
      dir = made
      root = createFiles(await diskFiles({ folder: path.join(dir, 'files') }), keysOf(new Uint8Array(32)))
      files = root.forModule('m')
      resolve()
      await finished
    })
    await opened
  })
  after(async () => {
    assert.deepEqual(await readdir(path.join(dir, 'files', '.drafts')), [], 'a draft is left')
    finish()
    await removed
  })

  const textOf = async (key: string) => String(Buffer.concat(await (await files.get(key)).body.toArray()))

  it('come from anything that yields bytes', async () => {
    const file = path.join(dir, 'source')
    await writeFile(file, 'from a stream')
    const sources: Record<string, Source> = {
      'from bytes': Buffer.from('from bytes'),
      'from text': 'from text',
      'from a stream': createReadStream(file, { highWaterMark: 3 }),
      'from a web stream': new Blob(['from a web stream']).stream() as unknown as AsyncIterable<Uint8Array>,
      'from a generator': (async function* () {
        yield 'from a '
        yield Buffer.from('generator')
      })(),
      '': Readable.from([]),
    }
    for (const [text, source] of Object.entries(sources)) {
      const info = await files.put('source', source)
      assert.equal(await textOf('source'), text)
      assert.deepEqual([info.size, info.sha256], [text.length, sha256(text)])
    }
  })

  it('have the type of their bytes, whatever a client says', async () => {
    const types: [Source, string][] = [
      [png, 'image/png'],
      [Readable.from([png.subarray(0, 3), png.subarray(3)]), 'image/png'],
      [Buffer.from('%PDF-1.7\n'), 'application/pdf'],
      ['<html><script>alert(1)</script>', 'text/plain'],
      ['<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', 'text/plain'],
      ['ä'.repeat(5000), 'text/plain'],
      [Buffer.from([1, 2, 3, 0xff]), 'application/octet-stream'],
      ['', 'application/octet-stream'],
    ]
    for (const [source, type] of types) assert.equal((await files.put('typed', source)).contentType, type)
    await files.put('typed', png, { types: ['image/*'] })
    await files.put('typed', png, { types: ['image/jpeg', 'image/png'] })
    const refused = files.put('typed', '<svg/>', { types: ['image/*'] })
    await assert.rejects(
      refused,
      (error) => isRungError(error, 'FILES_TYPE') && error.facts.contentType === 'text/plain',
    )
    assert.equal((await files.stat('typed'))?.contentType, 'image/png')
  })

  it('are no larger than allowed', async () => {
    await files.put('limited', Buffer.alloc(1024), { sizeMax: '1KiB' })
    const sources = [Buffer.alloc(1025), Readable.from([Buffer.alloc(1000), Buffer.alloc(25)])]
    for (const source of sources) {
      await assert.rejects(files.put('over', source, { sizeMax: '1KiB' }), coded('FILES_TOO_LARGE'))
    }
    const endless = (async function* () {
      for (;;) yield randomBytes(100_000)
    })()
    await assert.rejects(files.put('over', endless, { sizeMax: '5MiB' }), coded('FILES_TOO_LARGE'))
    assert.equal(await files.stat('over'), undefined)
  })

  it('are what their checksum says', async () => {
    await files.put('checked', 'right', { sha256: sha256('right').toUpperCase() })
    await assert.rejects(files.put('checked', 'wrong', { sha256: sha256('right') }), coded('FILES_CHECKSUM'))
    assert.equal(await textOf('checked'), 'right')
    await assert.rejects(files.put('checked', 'x', { sha256: 'abc' }), coded('FILES_OPTION_INVALID'))
  })

  it('come as a whole or not at all from a source that fails', async () => {
    const failure = new Error('the line broke')
    const generator = async function* () {
      yield randomBytes(100_000)
      throw failure
    }
    const destroyed = new PassThrough()
    destroyed.write(randomBytes(50_000), () => destroyed.destroy())
    const ended = Readable.from(['x'])
    await ended.toArray()
    for (const source of [generator(), Readable.from(generator()), destroyed, ended]) {
      await assert.rejects(files.put('half', source), coded('FILES_INCOMPLETE'))
      assert.equal(await files.stat('half'), undefined)
    }
  })

  it('are given up when the signal or the scope ends, also while the source hangs', async () => {
    const hanging = async function* () {
      yield randomBytes(100_000)
      await new Promise(() => {})
    }
    const controller = new AbortController()
    const given = files.put('aborted', hanging(), { signal: controller.signal })
    setImmediate(() => controller.abort(new Error('enough')))
    await assert.rejects(
      given,
      (error) => isRungError(error, 'FILES_ABORTED') && String(error.cause) === 'Error: enough',
    )

    const scope = new Scope('request', 'r1', 'PUT /')
    const put = runInScope(scope, () => files.put('aborted', hanging()))
    setImmediate(() => scope.cancel(new RungError('HTTP_CLIENT_GONE', 'gone')))
    await assert.rejects(
      put,
      (error) => isRungError(error, 'FILES_ABORTED') && isRungError(error.cause, 'HTTP_CLIENT_GONE'),
    )

    await assert.rejects(files.put('aborted', 'x', { signal: AbortSignal.abort() }), coded('FILES_ABORTED'))
    assert.equal(await files.stat('aborted'), undefined)
  })

  it('close a stream that they do not take to its end', async () => {
    const source = Readable.from([randomBytes(100), randomBytes(100)])
    await assert.rejects(files.put('closed', source, { sizeMax: 10 }), coded('FILES_TOO_LARGE'))
    assert.ok(source.destroyed)
  })

  it('keep metadata, within a limit', async () => {
    const metadata = { title: 'Ä\n"', by: '7' }
    await files.put('described', 'x', { metadata })
    assert.deepEqual((await files.stat('described'))?.metadata, metadata)
    for (const wrong of [{ a: 'x'.repeat(1025) }, { a: 1 as unknown as string }]) {
      await assert.rejects(files.put('described', 'x', { metadata: wrong }), coded('FILES_OPTION_INVALID'))
    }
  })

  it('of one module are none of another', async () => {
    const other = root.forModule('other')
    await files.put('mine', 'mine')
    assert.equal(await other.stat('mine'), undefined)
    assert.deepEqual((await other.list()).files, [])
    await other.put('mine', 'theirs')
    assert.equal(await textOf('mine'), 'mine')
    assert.deepEqual(
      (await other.list()).files.map(({ key }) => key),
      ['mine'],
    )
    await assert.rejects(other.get('../m/mine'), coded('FILES_KEY_INVALID'))
  })

  it('are listed page by page', async () => {
    const keys = Array.from({ length: 25 }, (_, n) => `page/${String(n).padStart(2, '0')}`)
    for (const key of keys) await files.put(key, key)
    const seen: string[] = []
    let cursor: string | undefined
    do {
      const page = await files.list('page/', { cursor, limit: 10 })
      seen.push(...page.files.map(({ key }) => key))
      cursor = page.cursor
    } while (cursor !== undefined)
    assert.deepEqual(seen, keys)
    assert.deepEqual(await files.list('page/nothing'), { files: [] })
    for (const limit of [0, 1001, 1.5]) await assert.rejects(files.list('', { limit }), coded('FILES_OPTION_INVALID'))
  })

  it('say what is not there', async () => {
    await assert.rejects(files.get('nothing'), coded('FILES_NOT_FOUND'))
    assert.equal(await files.stat('nothing'), undefined)
    await files.delete('nothing')
  })

  it('take Unicode in one form', async () => {
    await files.put('a\u0308', 'x')
    assert.equal((await files.stat('\u00e4'))?.key, '\u00e4')
  })

  it('refuse keys that are no plain path', async () => {
    const bad = ['', '/', '/a', 'a/', 'a//b', '.', '..', '../a', 'a/../b', 'a/.', 'a\0b', 'a\nb', 'a\\b', '\ud800']
    for (const key of [...bad, 'x'.repeat(keyBytesMax + 1), 'ä'.repeat(keyBytesMax / 2 + 1), 7 as unknown as string]) {
      for (const ask of [
        () => files.put(key, 'x'),
        () => files.get(key),
        () => files.stat(key),
        () => files.delete(key),
      ]) {
        await assert.rejects(ask, coded('FILES_KEY_INVALID'))
      }
      assert.throws(() => files.url(key, { expires: '1m' }), coded('FILES_KEY_INVALID'))
    }
  })

  it('never leave their folder, whatever the key', async () => {
    const before = (await readdir(dir)).sort()
    const piece = fc.oneof(
      fc.constantFrom(
        '..',
        '.',
        '/',
        '%2e',
        '%2e%2e',
        '\\',
        '\0',
        '~',
        '+',
        'C:',
        'nul',
        '.drafts',
        ' ',
        '\u202e',
        'ﬀ',
      ),
      fc.string({ unit: 'binary', maxLength: 20 }),
    )
    const key = fc.array(piece, { minLength: 1, maxLength: 8 }).map((pieces) => pieces.join(''))
    await fc.assert(
      fc.asyncProperty(key, async (one) => {
        try {
          const { key: stored } = await files.put(one, one)
          assert.equal(stored, one.normalize('NFC'))
          assert.equal(await textOf(one), one.toWellFormed())
          await files.delete(one)
        } catch (error) {
          if (!isRungError(error, 'FILES_KEY_INVALID')) throw error
        }
      }),
      { numRuns: 500 },
    )
    assert.deepEqual((await readdir(dir)).sort(), before)
    assert.deepEqual((await readdir(path.join(dir, 'files'))).sort(), ['.drafts', 'm+', 'other+'])
  })
})
