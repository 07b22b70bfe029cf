import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { keysOf } from '../../../src/kernel/keys.ts'
import { diskFiles } from '../../../src/primitives/files/disk.ts'
import { createFiles, type Files } from '../../../src/primitives/files/files.ts'
import { serveFiles } from '../../../src/primitives/files/serve.ts'
import type { Http } from '../../../src/primitives/http/contract.ts'
import { createHttp } from '../../../src/primitives/http/http.ts'
import { createLog } from '../../../src/runtime/log.ts'

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)
const bytes = randomBytes(1_000_000)
const tag = `"${createHash('sha256').update(bytes).digest('hex')}"`

describe('signed URLs', () => {
  let dir: string
  let http: Http
  let files: Files
  let base: string
  const clock = { now: () => now, ticks: () => 0 }
  const start = Date.UTC(2030, 0, 1)
  let now = start
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    const root = createFiles(await diskFiles({ folder: dir }), keysOf(randomBytes(32)), clock)
    files = root.forModule('m')
    await files.put('a/b ä?&#%.bin', bytes)
    await files.put('picture.png', png)
    await files.put('page.html', '<script>alert(1)</script>')
    http = await createHttp({ logger: createLog('test', 'silent'), revealing: false })
    await http.register(serveFiles(root))
    base = await http.listen({ host: '127.0.0.1', port: 0 })
  })
  beforeEach(() => {
    now = start
  })
  after(async () => {
    await http.close()
    await rm(dir, { recursive: true })
  })

  const get = (url: string, headers: Record<string, string> = {}, method = 'GET') =>
    fetch(base + url, { method, headers })
  const read = async (answer: Response) => Buffer.from(await answer.arrayBuffer())
  const url = () => files.url('a/b ä?&#%.bin', { expires: '5m' })

  async function refused(answer: Response): Promise<void> {
    assert.equal(answer.status, 403)
    assert.equal(((await answer.json()) as { code: string }).code, 'FILES_URL_INVALID')
  }

  it('serve the file until they expire', async () => {
    const one = url()
    const answer = await get(one)
    assert.equal(answer.status, 200)
    assert.deepEqual(await read(answer), bytes)
    assert.equal(answer.headers.get('etag'), tag)
    assert.equal(answer.headers.get('content-length'), '1000000')
    now += 5 * 60_000 - 1
    assert.equal((await get(one, {}, 'HEAD')).status, 200)
    now += 1
    await refused(await get(one))
    assert.equal((await get(files.url('nothing', { expires: '5m' }))).status, 404)
  })

  it('are good for a week at most', () => {
    assert.throws(() => files.url('a', { expires: '8d' }), { code: 'FILES_OPTION_INVALID' })
  })

  it('are worth nothing once any part is changed', async () => {
    const one = files.url('picture.png', { expires: '5m', filename: 'me.png' })
    const { pathname, searchParams } = new URL(one, base)
    const query = [...searchParams]
    const changed: string[] = []
    const spell = (at: string, pairs: [string, string][]) => changed.push(`${at}?${new URLSearchParams(pairs)}`)
    spell(pathname.replace('picture', 'page'), query)
    spell(pathname.replace('/m/', '/n/'), query)
    spell(pathname.replace('picture.png', 'a/../picture.png'), [...query, ['x', 'y']])
    for (const [n, [name, value]] of query.entries()) {
      spell(pathname, query.toSpliced(n, 1)) // left out
      spell(pathname, [...query, [name, value]]) // twice
      spell(pathname, query.with(n, [name, `${value}1`]))
      spell(pathname, query.with(n, [name, '']))
      spell(pathname, query.with(n, [name.toUpperCase(), value]))
    }
    spell(pathname, query.with(1, ['expires', `0${query[1]![1]}`]))
    spell(pathname, [...query, ['sizeMax', '5']])
    spell(pathname, [...query, ['anything', 'else']])
    assert.equal((await get(one)).status, 200)
    for (const each of changed) await refused(await get(each))
    await refused(await get(pathname))
    await refused(await get(one, {}, 'PUT'))
  })

  it('are worth nothing once any sign is changed', async () => {
    const one = files.url('picture.png', { expires: '5m' })
    const place = fc.integer({ min: '/-/files/'.length, max: one.length - 1 })
    const sign = fc.constantFrom(...'abcXYZ019-_%&=?/.')
    await fc.assert(
      fc.asyncProperty(place, sign, async (at, char) => {
        const other = one.slice(0, at) + char + one.slice(at + 1)
        fc.pre(other !== one)
        const { status } = await get(other)
        assert.ok([400, 403, 404].includes(status), `${status} for ${other}`)
      }),
      { numRuns: 300 },
    )
  })

  it('of one app are worth nothing in another', async () => {
    const other = createFiles(await diskFiles({ folder: dir }), keysOf(randomBytes(32)), clock).forModule('m')
    await refused(await get(other.url('picture.png', { expires: '5m' })))
  })

  it('serve parts', async () => {
    const parts: [string, number, number][] = [
      ['bytes=0-0', 0, 1],
      ['bytes=100-199', 100, 200],
      ['bytes=999990-', 999_990, 1_000_000],
      ['bytes=-10', 999_990, 1_000_000],
      ['bytes=500000-9999999', 500_000, 1_000_000],
    ]
    for (const [range, from, to] of parts) {
      const answer = await get(url(), { range })
      assert.equal(answer.status, 206)
      assert.equal(answer.headers.get('content-range'), `bytes ${from}-${to - 1}/1000000`)
      assert.equal(answer.headers.get('content-length'), `${to - from}`)
      assert.deepEqual(await read(answer), bytes.subarray(from, to))
    }
    for (const range of ['bytes=5-1', 'bytes=a-b', 'bytes=0-1,5-6', 'lines=1-2', 'bytes=-']) {
      assert.deepEqual(await read(await get(url(), { range })), bytes, range)
    }
    for (const range of ['bytes=1000000-', 'bytes=-0', 'bytes=99999999999999-']) {
      const answer = await get(url(), { range })
      assert.equal(answer.status, 416, range)
      assert.equal(answer.headers.get('content-range'), 'bytes */1000000')
      await answer.text()
    }
  })

  it('serve the rest only of what the client has a part of', async () => {
    const range = 'bytes=10-19'
    assert.equal((await get(url(), { range, 'if-range': tag })).status, 206)
    const whole = await get(url(), { range, 'if-range': '"other"' })
    assert.equal(whole.status, 200)
    assert.deepEqual(await read(whole), bytes)
  })

  it('serve nothing that the client has already', async () => {
    for (const given of [tag, `W/${tag}`, `"x", ${tag}`, '*']) {
      const answer = await get(url(), { 'if-none-match': given })
      assert.equal(answer.status, 304)
      assert.equal(answer.headers.get('etag'), tag)
      assert.equal((await read(answer)).length, 0)
    }
    const other = await get(url(), { 'if-none-match': '"x"' })
    assert.equal(other.status, 200)
    assert.deepEqual(await read(other), bytes)
  })

  it('answer HEAD without a body', async () => {
    const answer = await get(url(), { range: 'bytes=0-1' }, 'HEAD')
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('content-length'), '1000000')
    assert.equal((await read(answer)).length, 0)
  })

  it('let a browser run nothing', async () => {
    const headersOf = async (key: string, filename?: string) =>
      (await get(files.url(key, { expires: '5m', ...(filename && { filename }) }))).headers
    const page = await headersOf('page.html')
    assert.equal(page.get('content-type'), 'text/plain; charset=utf-8')
    assert.equal(page.get('content-disposition'), 'attachment')
    const picture = await headersOf('picture.png')
    assert.equal(picture.get('content-type'), 'image/png')
    assert.equal(picture.get('content-disposition'), 'inline')
    for (const headers of [page, picture]) {
      assert.equal(headers.get('x-content-type-options'), 'nosniff')
      assert.match(headers.get('content-security-policy')!, /default-src 'none'.*; sandbox$/)
    }
    const named = (await headersOf('picture.png', `"a'\r\nb%; ä\u{1f600}.png`)).get('content-disposition')
    assert.equal(
      named,
      `attachment; filename="_a'__b_; ___.png"; filename*=UTF-8''%22a%27%0D%0Ab%25%3B%20%C3%A4%F0%9F%98%80.png`,
    )
  })

  it('take an upload, within its limits', async () => {
    const put = (options: object, body: string | Uint8Array<ArrayBuffer> | null, headers = {}) => {
      const one = files.url('uploaded', { expires: '5m', method: 'PUT', ...options })
      return fetch(base + one, { method: 'PUT', body, headers })
    }
    const taken = await put({ types: ['image/png'], sizeMax: '1KiB' }, png, { 'content-type': 'text/html' })
    assert.equal(taken.status, 204)
    assert.equal(taken.headers.get('etag'), `"${(await files.stat('uploaded'))?.sha256}"`)
    assert.equal((await files.stat('uploaded'))?.contentType, 'image/png')
    assert.equal((await put({ types: ['image/png', 'image/jpeg'] }, 'text')).status, 415)
    assert.equal((await put({ sizeMax: '1KiB' }, bytes)).status, 413)
    assert.equal((await put({}, '{"json":true}', { 'content-type': 'application/json' })).status, 204)
    assert.equal((await files.stat('uploaded'))?.size, 13)
    assert.equal((await put({}, null)).status, 204)
    assert.equal((await files.stat('uploaded'))?.size, 0)
    const forReading = files.url('uploaded', { expires: '5m' })
    await refused(await fetch(base + forReading, { method: 'PUT', body: 'x' }))
    const forWriting = files.url('uploaded', { expires: '5m', method: 'PUT' })
    await refused(await get(forWriting))
  })

  it('leave nothing of an upload whose client goes away', async () => {
    const { pathname, search } = new URL(files.url('broken', { expires: '5m', method: 'PUT' }), base)
    const { hostname, port } = new URL(base)
    const upload = request({
      hostname,
      port,
      path: pathname + search,
      method: 'PUT',
      headers: { 'content-length': 2_000_000 },
    })
    upload.on('error', () => {})
    await new Promise<void>((resolve) => upload.write(bytes, () => resolve()))
    upload.destroy()
    await http.close()
    assert.equal(await files.stat('broken'), undefined)
  })
})
