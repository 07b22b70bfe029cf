import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { defineApp, defineModule, html, RungError, rawHtml } from '../../../src/index.ts'
import { isRungError } from '../../../src/kernel/errors.ts'
import { loadAssets } from '../../../src/primitives/http/assets.ts'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { type TestPostgres, testPostgres, withTempDir } from '../../support/postgres.ts'

const style = 'p { color: red }\n'.repeat(200)

describe('pages', () => {
  let postgres: TestPostgres
  let app: Running
  let folder: URL
  before(async () => {
    postgres = await testPostgres()
    await withTempDir(async (dir) => {
      await mkdir(path.join(dir, 'icons'))
      await writeFile(path.join(dir, 'style.css'), style)
      await writeFile(path.join(dir, 'icons/dot.svg'), '<svg/>')
      await writeFile(path.join(dir, '.hidden'), 'not for others')
      folder = pathToFileURL(`${dir}/`)
      const site = defineModule({
        name: 'site',
        owner: 'tests',
        assets: folder,
        routes(http, { asset }) {
          http.get('/page', async () => html`<p title="${'"<'}">${['<b>', rawHtml('<i>'), null, false, 1]}</p>`)
          const many = Array.from({ length: 500 }, (_, n) => ({ n, text: 'words' }))
          http.get(
            '/long',
            { config: { cache: { ttl: '1h', tags: [] } } },
            async () => html`<p>${JSON.stringify(many)}</p>`,
          )
          http.get('/long.json', async () => many)
          http.get('/kept', { config: { cache: { ttl: '1h', tags: [] } } }, async () => html`<p>kept</p>`)
          http.get('/names', async () => [asset('style.css'), asset('icons/dot.svg')])
          http.get('/broken', async () => {
            throw new RungError('HTTP_NOT_FOUND', 'Not <here>.')
          })
        },
      })
      const formatProblem = (problem: { detail: string }) => html`<h1>${problem.detail}</h1>`
      app = await bootForTest(defineApp({ name: 'site', modules: [site], http: { formatProblem } }), postgres)
    })
  })
  after(async () => {
    await app?.stop()
    await postgres.stop()
  })
  const get = (at: string, headers: Record<string, string> = {}) => fetch(app.url + at, { headers })

  it('are answered as HTML, with what they are made of escaped', async () => {
    const page = await get('/page')
    assert.equal(await page.text(), '<p title="&quot;&lt;">&lt;b&gt;<i>1</p>')
    assert.equal(page.headers.get('content-type'), 'text/html; charset=utf-8')
  })

  it('run no scripts but the app’s own, also where they are kept, unchanged or an error', async () => {
    const kept = await get('/kept')
    const again = await get('/kept', { 'if-none-match': kept.headers.get('etag')! })
    assert.equal(again.status, 304)
    const broken = await get('/broken')
    assert.deepEqual([broken.status, await broken.text()], [404, '<h1>Not &lt;here&gt;.</h1>'])
    for (const page of [await get('/page'), kept, again, broken]) {
      const policy = page.headers.get('content-security-policy')!
      assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/)
      assert.doesNotMatch(policy, /unsafe/)
      // With no-referrer a form would be sent without the origin that says it is no other site's.
      assert.equal(page.headers.get('referrer-policy'), 'same-origin')
    }
  })

  it('have files under names of their content, in the form that the browser takes', async () => {
    const [css, svg] = (await (await get('/names')).json()) as [string, string]
    assert.match(css, /^\/-\/assets\/site\/style\.[\w-]{12}\.css$/)
    assert.match(svg, /^\/-\/assets\/site\/icons\/dot\.[\w-]{12}\.svg$/)
    const raw = (encoding: string) => app.http.inject({ url: css, headers: { 'accept-encoding': encoding } })
    for (const [accepted, encoding, open] of [
      ['gzip, deflate, br', 'br', brotliDecompressSync],
      ['gzip', 'gzip', gunzipSync],
      ['br;q=0, gzip;q=0.5', 'gzip', gunzipSync],
      ['', undefined, (bytes: Buffer) => bytes],
      ['br;q=0', undefined, (bytes: Buffer) => bytes],
    ] as const) {
      const { headers, rawPayload } = await raw(accepted)
      assert.equal(headers['content-encoding'], encoding, accepted)
      assert.equal(open(rawPayload).toString(), style)
      assert.equal(headers['cache-control'], 'public, max-age=31536000, immutable')
    }
    assert.equal((await get(svg)).headers.get('content-encoding'), null, 'too small to be compressed')
    const { etag } = (await raw('')).headers
    assert.equal((await get(css, { 'if-none-match': etag! })).status, 304)
  })

  it('and values for JSON are compressed where their client takes it', async () => {
    for (const [path, type] of [
      ['/long', 'text/html'],
      ['/long.json', 'application/json'],
    ] as const) {
      const raw = (encoding: string, more = {}) =>
        app.http.inject({ url: path, headers: { 'accept-encoding': encoding, ...more } })
      const plain = await raw('')
      assert.match(String(plain.headers['content-type']), new RegExp(`^${type}`))
      assert.equal(plain.headers['content-encoding'], undefined)
      for (const [encoding, open] of [
        ['br', brotliDecompressSync],
        ['gzip', gunzipSync],
      ] as const) {
        const { headers, rawPayload } = await raw(encoding)
        assert.equal(headers['content-encoding'], encoding)
        assert.equal(Number(headers['content-length']), rawPayload.length)
        assert.equal(open(rawPayload).toString(), plain.payload)
        assert.ok(rawPayload.length < plain.rawPayload.length / 4)
        const names = String(headers.vary).toLowerCase().split(', ')
        assert.deepEqual([names.includes('accept-encoding'), new Set(names).size], [true, names.length])
        if (headers.etag) assert.equal((await raw(encoding, { 'if-none-match': headers.etag })).statusCode, 304)
      }
    }
    assert.equal(
      (await app.http.inject({ url: '/page', headers: { 'accept-encoding': 'br' } })).headers['content-encoding'],
      undefined,
    )
  })

  it('have nothing beside the folder, and nothing hidden in it', async () => {
    for (const name of ['.hidden', '../site/.hidden', '..%2f..%2fetc%2fpasswd', 'none.css', '', '%00']) {
      const { status } = await get(`/-/assets/site/${name}`)
      assert.ok(status === 404 || status === 400, `${name}: ${status}`)
    }
  })

  it('an asset that cannot be served stops the start, with one sentence', () =>
    withTempDir(async (dir) => {
      const url = pathToFileURL(`${dir}/`)
      const refused = (pattern: RegExp) => (error: unknown) =>
        isRungError(error, 'APP_INVALID') && pattern.test(error.message)
      await assert.rejects(loadAssets('site', new URL('none/', url)), refused(/cannot be read/))
      await writeFile(path.join(dir, 'run.exe'), 'x')
      await assert.rejects(loadAssets('site', url), refused(/"run\.exe" has an unknown type/))
      const none = await loadAssets('site', undefined)
      assert.throws(() => none.urlOf('style.css'), refused(/no asset "style\.css"/))
    }))
})
