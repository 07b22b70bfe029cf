import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Extension, Running } from '../../src/runtime/boot.ts'
import { type Bindings, readBindings } from '../../src/topology/bindings.ts'
import { bootForTest } from '../support/app.ts'
import album from '../support/apps/album/app.ts'
import shop from '../support/apps/shop/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { startSmtp } from '../support/smtp.ts'

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

describe('files and mail in an app', () => {
  let dir: string
  let postgres: TestPostgres
  let running: Running
  const start = (overrides: Partial<Bindings> = {}, settings: Record<string, string> = {}) =>
    bootForTest(album, postgres, { dataDir: dir, ...overrides }, [], settings)
  before(async () => {
    dir = path.join(await mkdtemp(path.join(tmpdir(), 'rung-test-')), 'data')
    postgres = await testPostgres()
    running = await start()
  })
  after(async () => {
    await running?.stop()
    await postgres?.stop()
    await rm(path.dirname(dir), { recursive: true })
  })

  const ask = (path: string, init: RequestInit = {}, of = running) => fetch(of.url + path, init)
  const upload = (id: string, body: Uint8Array<ArrayBuffer> | string, type = 'image/png') =>
    ask(`/pictures/${id}`, { method: 'PUT', body, headers: { 'content-type': type } })

  it('need no data directory until there is something to keep', async () => {
    assert.deepEqual(await readdir(path.dirname(dir)), [])
    await upload('first', png)
    assert.deepEqual((await readdir(dir)).sort(), ['files', 'rung.json'])
  })

  it('take a picture from the body of a request, and serve it', async () => {
    const taken = await upload('7', png)
    assert.equal(taken.status, 201)
    const { url } = (await (await ask('/pictures/7/url')).json()) as { url: string }
    const answer = await ask(url)
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), png)
    assert.equal(answer.headers.get('content-type'), 'image/png')
    assert.ok(answer.headers.get('x-request-id'))
    const listed = (await (await ask('/pictures')).json()) as { key: string }[]
    assert.deepEqual(
      listed.map(({ key }) => key),
      ['pictures/7', 'pictures/first'],
    )
  })

  it('refuse what is no picture or too large, and the client gets the answer', async () => {
    assert.equal((await upload('8', 'no picture')).status, 415)
    assert.equal((await upload('8', Buffer.concat([png, Buffer.alloc(20_000_000)]))).status, 413)
    assert.equal((await ask('/pictures/8/url')).status, 404)
    assert.equal((await upload('8', '{}', 'application/xml')).status, 415) // by Fastify: nobody parses it
  })

  it('take an upload at a signed URL', async () => {
    const { url } = (await (await ask('/upload-url', { method: 'POST' })).json()) as { url: string }
    assert.equal((await ask(url, { method: 'PUT', body: png })).status, 204)
    assert.equal((await ask(url)).status, 403)
  })

  it('are refused where other processes may not have the data directory, unless they have it', async () => {
    for (const [settings, status] of [
      [{ RUNG_WEB: '2' }, 500],
      [{ RUNG_WEB: '2', RUNG_FILES_SHARED: 'on' }, 201],
    ] as const) {
      const one = await start({}, settings)
      const put = { method: 'PUT', body: png, headers: { 'content-type': 'image/png' } }
      const answer = await ask('/pictures/9', put, one)
      assert.equal(answer.status, status)
      const { code, detail } = (await answer.json()) as { code?: string; detail?: string }
      if (status === 500) assert.deepEqual([code, /RUNG_S3_URL/.test(detail ?? '')], ['CONFIG_INVALID', true])
      await one.stop()
    }
  })

  it('write mail where nobody sends it, and show it', async () => {
    const evil = '<script>alert(1)</script> ä'
    const { messageId } = (await (await ask(`/invite/${encodeURIComponent(evil)}`, { method: 'POST' })).json()) as {
      messageId: string
    }
    const list = await (await ask('/-/mail')).text()
    const [, link] = /<a href="(\/-\/mail\/[^"]+)">/.exec(list)!
    const page = await ask(link!)
    const shown = await page.text()
    for (const text of [list, shown]) {
      assert.match(text, /Hello &lt;script&gt;alert\(1\)&lt;\/script&gt; ä/)
      assert.doesNotMatch(text, /<script/)
    }
    assert.ok(shown.includes(messageId.slice(1, -1)))
    assert.match(page.headers.get('content-security-policy')!, /^default-src 'none'/)
    const body = await ask(`${link}/html`)
    assert.match(await body.text(), /^<p>Hello &lt;script/)
    assert.match(body.headers.get('content-security-policy')!, /sandbox$/)
    const source = await ask(`${link}/source`)
    assert.match(await source.text(), /^X-Envelope-From: <rung@localhost>\r\n/)
    assert.match(source.headers.get('content-type')!, /^text\/plain/)
    for (const id of ['nothing', '..%2f..%2frung.json', '20300101T000000000Z-00000000']) {
      assert.equal((await ask(`/-/mail/${id}`)).status, 404)
    }
  })

  it('refuse to send mail inside a transaction', async () => {
    const answer = await ask('/invite-in-transaction', { method: 'POST' })
    assert.equal(((await answer.json()) as { code: string }).code, 'MAIL_IN_TRANSACTION')
  })

  it('warn in production that mail reaches nobody', async () => {
    const warnings: unknown[] = []
    const listening: Extension = (_http, { log }) => {
      log.warn = ((facts: { event?: string }) => void warnings.push(facts.event)) as typeof log.warn
    }
    const smtp = { RUNG_SMTP_URL: 'smtp://127.0.0.1:1', RUNG_MAIL_FROM: 'Shop <shop@example.org>' }
    for (const [app, mode, settings, expected] of [
      [album, 'production', {}, ['mail-not-sent']],
      [album, 'production', smtp, []],
      [album, 'development', {}, []],
      [shop, 'production', {}, []],
    ] as const) {
      const production = await bootForTest(app, postgres, { dataDir: dir, mode }, [listening], settings)
      await production.stop()
      assert.deepEqual(warnings.splice(0), expected)
    }
  })

  it('show no mail in production', async () => {
    const production = await start({ mode: 'production' })
    try {
      assert.equal((await ask('/-/mail', {}, production)).status, 404)
    } finally {
      await production.stop()
    }
  })

  it('send mail through a server where there is one', async () => {
    const server = await startSmtp()
    const env = { RUNG_SMTP_URL: `smtp://127.0.0.1:${server.port}`, RUNG_MAIL_FROM: 'Shop <shop@example.org>' }
    const sending = await start({}, env)
    try {
      const answer = await ask('/invite/Bob', { method: 'POST' }, sending)
      assert.deepEqual(((await answer.json()) as { refused: string[] }).refused, [])
      assert.equal(server.received[0]?.from, 'shop@example.org')
      assert.match(server.received[0]!.content, /^From: Shop <shop@example\.org>\r$/m)
      assert.equal((await ask('/-/mail', {}, sending)).status, 404)
      await server.close()
      const failed = await ask('/invite/Bob', { method: 'POST' }, sending)
      assert.equal(failed.status, 503)
      assert.equal(((await failed.json()) as { code: string }).code, 'MAIL_UNAVAILABLE')
    } finally {
      await sending.stop()
    }
  })
})

describe('the settings of mail', () => {
  const read = (env: Record<string, string>) => () => readBindings(env, '/')
  const from = { RUNG_MAIL_FROM: 'shop@example.org' }

  it('say what is wrong, and no password', () => {
    const wrong: [Record<string, string>, RegExp][] = [
      [{ RUNG_SMTP_URL: 'http://u:hunter2@a', ...from }, /RUNG_SMTP_URL must have the form smtp:/],
      [{ RUNG_SMTP_URL: 'smtp://u:hunter2@a:b@c d', ...from }, /RUNG_SMTP_URL must have the form smtp:/],
      [{ RUNG_SMTP_URL: 'smtp://u:hunter2@a' }, /A mail server needs a sender .* RUNG_MAIL_FROM/],
      [{ RUNG_MAIL_FROM: 'Shop' }, /RUNG_MAIL_FROM is "Shop"; it must be an address/],
    ]
    for (const [env, message] of wrong) {
      assert.throws(read(env), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'CONFIG_INVALID')
        assert.match(error.message, message)
        assert.doesNotMatch(error.message, /hunter2/)
        return true
      })
    }
  })

  it('name the server and who sends', () => {
    const { mail } = readBindings({ RUNG_SMTP_URL: 'smtp://a', ...from }, '/')
    assert.deepEqual(mail, { engine: 'smtp', url: 'smtp://a', from: 'shop@example.org' })
    assert.deepEqual(readBindings({}, '/').mail, { engine: 'eml', from: 'rung@localhost' })
  })
})
