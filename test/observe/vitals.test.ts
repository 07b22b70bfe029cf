import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineModule, html } from 'rung'
import { Type } from 'typebox'
import { observe } from '../../src/observe/observe.ts'
import { bootForTest } from '../support/app.ts'
import { noBrowser, openBrowser } from '../support/browser.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'

const Slug = Type.Object({ slug: Type.String() })
const pages = defineModule({
  name: 'pages',
  owner: 'tests',
  routes(http) {
    http.get('/article/:slug', { schema: { params: Slug } }, async (request, reply) => {
      reply.header('server-timing', 'db;dur=5')
      const { slug } = request.params
      return html`<!doctype html><title>x</title><script src="/-/vitals.js" defer></script><h1>${slug}</h1><a href="/article/next">next</a>`
    })
  },
})
const app = defineApp({ name: 'paper', modules: [pages], vitals: true })

describe('web vitals', () => {
  let postgres: TestPostgres
  let running: Awaited<ReturnType<typeof bootForTest>>
  before(async () => {
    postgres = await testPostgres()
    running = await bootForTest(app, postgres, {}, [observe({ app })])
  })
  after(async () => {
    await running?.stop()
    await postgres.stop()
  })

  const metrics = async () => (await fetch(`${running.url}/metrics`)).text()
  const report = (body: unknown) =>
    fetch(`${running.url}/-/vitals`, {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
    })
  const countOf = (text: string, vital: string, page: string) =>
    Number(new RegExp(`web_vital_seconds_count\\{vital="${vital}",page="${page}"\\} (\\d+)`).exec(text)?.[1] ?? 0)

  it('are reported by a browser, by the route of the page', { skip: noBrowser }, async () => {
    const browser = await openBrowser()
    try {
      const { page, complaints } = await browser.visit()
      await page.goto(`${running.url}/article/first`)
      await page.click('h1')
      await page.click('a')
      await page.waitForURL('**/article/next')
      await page.close({ runBeforeUnload: false })
      const text = await until(async () => {
        const now = await metrics()
        return countOf(now, 'FCP', '/article/:slug') >= 1 && now
      }, 'a report came')
      assert.ok(countOf(text, 'TTFB', '/article/:slug') >= 1)
      assert.match(text, /web_layout_shift_count\{page="\/article\/:slug"\} \d/)
      assert.deepEqual(complaints, [])
    } finally {
      await browser.close()
    }
  })

  it('count only for a route of the app, and in bounds', async () => {
    const before = countOf(await metrics(), 'LCP', '/article/:slug')
    assert.equal((await report({ page: '/article/:slug', LCP: 1_200, CLS: 0.02 })).status, 204)
    for (const page of ['/article/first', '/made-up', '', '/:a(', '/a/*b', '/:a((x+x+)+y)', '"} 1\nx{a="'])
      assert.equal((await report({ page, LCP: 1_200 })).status, 204, page)
    for (const wrong of [
      { LCP: 1 },
      { page: '/article/:slug', LCP: -1 },
      { page: '/article/:slug', LCP: 1e12 },
      { page: '/article/:slug', LCP: '1' },
      { page: '/article/:slug', own: 1 },
      { page: 'x'.repeat(300) },
    ])
      assert.equal((await report(wrong)).status, 422, JSON.stringify(wrong))
    assert.equal((await report({ page: 'x'.repeat(2_000) })).status, 413)
    const text = await metrics()
    assert.equal(countOf(text, 'LCP', '/article/:slug'), before + 1)
    assert.deepEqual(
      [...new Set([...text.matchAll(/web_vital_seconds_count.*page="([^"]*)"/g)].map(([, page]) => page))],
      ['/article/:slug'],
    )
  })

  it('leave what the app itself says of its times', async () => {
    const { headers } = await fetch(`${running.url}/article/first`)
    assert.equal(headers.get('server-timing'), 'db;dur=5, route;desc="/article/:slug"')
  })

  it('come by a script that is not sent twice', async () => {
    const first = await fetch(`${running.url}/-/vitals.js`)
    assert.match(await first.text(), /webVitals=[\s\S]*sendBeacon/)
    const etag = first.headers.get('etag')!
    const again = await fetch(`${running.url}/-/vitals.js`, { headers: { 'if-none-match': etag } })
    assert.equal(again.status, 304)
  })
})
