import assert from 'node:assert/strict'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { userInfo } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Page } from 'playwright-core'
import { violationsOf } from '../support/axe.ts'
import { desktop, noBrowser, openBrowser, phone } from '../support/browser.ts'
import { isDrawn, urlOf } from '../support/console-pages.ts'
import { ledgerProject } from '../support/deploys.ts'
import { write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { type Facts, type Launched, openScratch, type Scratch, sameExit, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const paths = [
  ...[
    '/',
    '/topology',
    '/traffic',
    '/errors',
    '/data',
    '/cache',
    '/jobs',
    '/capacity',
    '/proofs',
    '/advice',
    '/incidents',
    '/traces',
    '/mail',
  ],
]

interface Shown {
  /** With the token. */
  url: string
}

/** Waits for the end of a change, and fails with what the page says if it was refused. */
async function done(page: Page, change: string): Promise<void> {
  const said = async () => (await page.locator('.said').textContent()) ?? ''
  await until(async () => !/^(Working: .*)?$/.test(await said()), `the end of ${change}`)
  assert.ok((await said()).startsWith(`Done: ${change}`), await said())
}

describe('the console', { skip: noBrowser || noNginx || noRedis }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let facts: Facts
  let browser: Awaited<ReturnType<typeof openBrowser>>
  /** The command; the other console is the one that `rung up` opens. */
  let showing: Launched
  let shows: Shown
  let acts: Shown
  /** While this file is not there, the job fails. */
  let mended: string
  /** While this file is there, a process does not become ready. */
  let held: string
  before(async () => {
    scratch = await openScratch()
    const project = await ledgerProject(path.join(scratch.dir, 'ledger'))
    mended = path.join(scratch.dir, 'mended')
    held = path.join(scratch.dir, 'held')
    await project.write('1', {
      "import { defineApp, defineModule } from 'rung'": `import { existsSync } from 'node:fs'
import { defineApp, defineJob, defineModule, handle } from 'rung'`,
      'const Entry =': `while (existsSync(${JSON.stringify(held)})) await new Promise((wait) => setTimeout(wait, 20))
const tidy = defineJob('ledger.tidy', Type.Object({}), { attempts: 1 })
const Entry =`,
      '  routes(http, { data }) {': `  work: () => [
    handle(tidy, async () => {
      if (!existsSync(${JSON.stringify(mended)})) throw new Error('the broom is broken')
    }),
  ],
  routes(http, { data, jobs }) {
    http.post('/tidy', async () => data.write(async (tx) => ({ id: await tx.enqueue(tidy, {}) })))
    http.get('/broken', async () => { throw new Error('a lamp is broken') })`,
    })
    const up = scratch.launch({ up: '1k', app: project.app, env: { RUNG_CONSOLE: 'act' } })
    facts = await up.started
    await write(facts, 'first')
    browser = await openBrowser()
    showing = scratch.launch({ command: ['console', project.app, '--port', '0', '--json'] })
    shows = { url: await urlOf(showing) }
    const token = await readFile(path.join(scratch.dataDir, 'console-token'), 'utf8')
    acts = { url: `${facts.console}?token=${token.trim()}` }
  })
  after(async () => {
    await browser?.close()
    await scratch?.end()
  })

  const at = ({ url }: Shown, where: string) => new URL(where, url).href
  async function visit(shown: Shown, options: object = desktop): Promise<{ page: Page; complaints: string[] }> {
    const visited = await browser.visit(options)
    visited.page.setDefaultTimeout(240_000) // a signal is waited for, however busy the machine is
    await visited.page.goto(shown.url)
    assert.equal(new URL(visited.page.url()).search, '', 'the token leaves the address')
    return visited
  }

  it('shows each page without a complaint of the browser, wide and narrow, light and dark', async () => {
    for (const options of [
      { ...desktop, colorScheme: 'light' },
      { ...phone, colorScheme: 'dark' },
    ]) {
      const { page, complaints } = await visit(shows, options)
      for (const one of paths) {
        await page.goto(at(shows, one))
        await until(() => page.evaluate(isDrawn), `${one} is drawn`)
        const wide = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        assert.ok(Number(wide) <= 0, `${one} is wider than the screen by ${wide} px`)
        const texts = String(await page.evaluate(`document.querySelector('main').innerText`))
        assert.doesNotMatch(texts, /\[object |^(false|undefined|null)$/m, one)
        const found = await violationsOf(page)
        assert.deepEqual(found, [], one)
      }
      assert.deepEqual(complaints, [])
      await page.context().close()
    }
  })

  it('only shows unless it was started to act', async () => {
    const { page } = await visit(shows)
    await page.goto(at(shows, '/topology'))
    await page.getByRole('cell', { name: 'app-1' }).first().waitFor()
    assert.equal(await page.getByRole('button', { name: 'Restart' }).count(), 0)
    const status = await page.evaluate(async () => {
      const headers = { authorization: `Bearer ${localStorage.getItem('token')}` }
      const answer = await fetch('/do/restart', { method: 'POST', headers, body: '{"part":"app-1"}' })
      return answer.status
    })
    assert.equal(status, 403)
    await page.context().close()
  })

  it('draws a page again when what it shows has changed, but not while text on it is selected', async () => {
    const { page } = await visit(shows)
    const mark = `document.querySelector('main h1').dataset.mark = 'old'`
    const isMarked = () => page.evaluate(`document.querySelector('main h1').dataset.mark === 'old'`)
    /** Two readings of the strip: the load of a part changes. */
    const readings = () =>
      page.evaluate(`new Promise(async (resolve) => {
        const headers = { authorization: 'Bearer ' + localStorage.getItem('token') }
        const { passes } = await (await fetch('/about', { headers })).json()
        const live = new EventSource('/live?view=fleet&pass=' + passes.live)
        let count = 0
        live.onmessage = () => { count += 1; if (count === 3) { live.close(); requestAnimationFrame(() => requestAnimationFrame(resolve)) } }
      })`)
    await page.goto(at(shows, '/proofs'))
    await until(() => page.evaluate(isDrawn), 'the page is drawn')
    await page.evaluate(mark)
    await readings()
    assert.equal(await isMarked(), true, 'the strip is no part of the page')
    await page.goto(at(shows, '/topology'))
    await until(() => page.evaluate(isDrawn), 'the page is drawn')
    await page.evaluate(`${mark}; getSelection().selectAllChildren(document.querySelector('main h1'))`)
    await readings()
    assert.equal(await isMarked(), true, 'text is selected')
    await page.evaluate('getSelection().removeAllRanges()')
    await until(async () => !(await isMarked()), 'it is drawn again')
    await page.context().close()
  })

  it('ends the charts of a page that is left', async () => {
    const { page } = await visit(shows)
    await page.goto(at(shows, '/proofs'))
    await until(() => page.evaluate(isDrawn), 'the page is drawn')
    // The library listens for this event once itself, and once for each chart.
    await page.evaluate(`window.ended = 0
      const remove = window.removeEventListener
      window.removeEventListener = (name, ...more) => { if (name === 'dppxchange') window.ended += 1; return remove.call(window, name, ...more) }
      import('/page/chart.js').then(({ chart }) => document.querySelector('main').append(chart([1, 2], [{ label: 'x', values: [1, 2] }])))`)
    await page.locator('main .uplot').waitFor()
    await page.getByRole('link', { name: 'Ladder', exact: true }).click()
    await until(() => page.evaluate('window.ended === 1'), 'the chart has ended')
    await page.context().close()
  })

  it('shows a part that is killed, and its return', async () => {
    const { page } = await visit(acts)
    await page.goto(at(acts, '/topology'))
    const row = page.getByRole('row').filter({ hasText: 'app-1' })
    await row.getByText('running').waitFor()
    page.on('dialog', (dialog) => dialog.accept())
    const strip = page.getByRole('complementary')
    await writeFile(held, '')
    await row.getByRole('button', { name: 'Kill' }).click()
    await strip.getByText(/app-1 is /).waitFor()
    await rm(held)
    await row.getByText('running').waitFor()
    await strip.getByText(/parts run/).waitFor()
    await page.context().close()
  })

  it('shows errors and dead jobs, and runs one again', async () => {
    const { page } = await visit(acts)
    await fetch(`${facts.url}/broken`)
    await fetch(`${facts.url}/tidy`, { method: 'POST' })
    await page.goto(at(acts, '/errors'))
    await page.getByText('a lamp is broken').first().waitFor()
    await page.getByText('GET /broken').first().waitFor()
    await page.goto(at(acts, '/jobs'))
    await page.getByText('the broom is broken').waitFor()
    await page.getByRole('complementary').getByText('1 dead job').waitFor()
    await writeFile(mended, '')
    await page.getByRole('button', { name: 'Retry', exact: true }).click()
    await page.getByText('No job is dead.').waitFor()
    await page.getByRole('complementary').getByText('No job waits').waitFor()
    await page.context().close()
  })

  it('shows elements and texts only, and an error with its stack', async () => {
    const { page, complaints } = await visit(shows)
    const sees = async (where: string) => {
      await page.goto(at(shows, where))
      await until(() => page.evaluate(isDrawn), `${where} is drawn`)
      return page.getByRole('main').innerText()
    }
    for (const where of ['/advice', '/topology'])
      assert.doesNotMatch(await sees(where), /\[object |\b(false|undefined|null)\b/, where)
    const ofStart = await page.evaluate(`(async () => {
      const { topology } = await import(new URL('topology.js', document.querySelector('script[type=module]').src))
      const parts = [{ name: 'app', state: 'running', restarts: 0, since: 0, address: '127.0.0.1:3000', pid: 1 }]
      const readings = new Map([['fleet', { view: { running: true, parts } }]])
      const drawn = topology.draw(readings, { acts: true, app: 'ledger' }).flat(9).filter(Boolean)
      return [drawn[0].querySelector('h2').textContent, drawn.some((one) => one.querySelector('button'))]
    })()`)
    assert.deepEqual(ofStart, ['ledger at http://127.0.0.1:3000', false])
    const atTheTop = await page.evaluate(`(async () => {
      const { ladder } = await import(new URL('ladder.js', document.querySelector('script[type=module]').src))
      const fleet = { view: { running: true, rung: '1m', parts: [] } }
      const readings = new Map([['fleet', fleet], ['step', { error: { message: 'It is the highest one.' } }]])
      const drawn = ladder.draw(readings, { acts: true, act() {} })
      return drawn.flatMap((one) => [...one.querySelectorAll('button')]).map(({ textContent }) => textContent)
    })()`)
    assert.deepEqual(atTheTop, ['Take the last climb back'])
    await fetch(`${facts.url}/broken`)
    await page.goto(at(shows, '/errors'))
    await page.getByRole('link', { name: /a lamp is broken/ }).click()
    await page.waitForURL('**/errors?id=*')
    const stack = page.getByText(/^at .*[(/]app\.(ts|js):/m)
    await stack.waitFor()
    assert.deepEqual(await violationsOf(page), [])
    await page.reload()
    await stack.waitFor()
    assert.match(await sees('/errors'), /a lamp is broken/)
    assert.doesNotMatch(await sees(`/errors?id=${encodeURIComponent('$(reboot)')}`), /in a terminal/)
    assert.match(await sees('/nowhere'), /There is no such page/)
    assert.deepEqual(complaints, [])
    await page.context().close()
  })

  it('shows what a request did, found by its route', async () => {
    const { page, complaints } = await visit(shows)
    await page.goto(at(shows, '/traces'))
    await until(() => page.evaluate(isDrawn), 'the list is drawn')
    const found = page.getByRole('link', { name: 'POST /entries', exact: true }).first()
    await until(async () => {
      await write(facts, `traced-${Math.random()}`) // all are kept since the page was opened
      return found.isVisible()
    }, 'the request is listed')
    await page.getByRole('searchbox', { name: 'Route' }).fill('entries')
    await page.keyboard.press('Enter')
    await page.waitForURL('**/traces?route=entries')
    await found.click()
    await page.waitForURL('**/traces?id=*')
    await page.getByText('insert into ledger.entry (id, body) values ($1, $2)').waitFor()
    assert.deepEqual(await violationsOf(page), [])
    await page.reload()
    await page.getByText('insert into ledger.entry (id, body) values ($1, $2)').waitFor()
    assert.deepEqual(complaints, [])
    await page.context().close()
  })

  it('shows an alert that fires, and that somebody has seen it', async () => {
    const client = await scratch.connect()
    // As the app writes it once a rule has held for long enough.
    await client.query('insert into rung.alert_look values (now()) on conflict do nothing')
    await client.query(
      `insert into rung.alert (rule, labels, state, since, fired_at, value) values ('pool-used', '{"pool":"write"}', 'firing', now(), now(), 0.93)`,
    )
    const { page } = await visit(acts)
    await page.goto(at(acts, '/incidents'))
    await page.getByRole('complementary').getByText('1 alert: pool-used').waitFor()
    const row = page.getByRole('row').filter({ hasText: 'pool-used' })
    await row.getByText('write').waitFor()
    await row.getByRole('button', { name: 'Acknowledge' }).click()
    await row.getByText(userInfo().username).waitFor()
    assert.equal(await row.getByRole('button').count(), 0)
    const { rows } = await client.query('select acknowledged_by as by from rung.alert')
    assert.deepEqual(rows, [{ by: userInfo().username }])
    await client.end()
    await page.context().close()
  })

  it('gives a stranger nothing', async () => {
    const ask = (where: string, headers: Record<string, string> = {}, method = 'GET') =>
      new Promise<{ status: number; body: string; headers: object }>((resolve, reject) => {
        request(at(acts, where), { method, headers }, (answer) => {
          let body = ''
          answer.on('data', (chunk) => (body += chunk))
          answer.on('end', () => resolve({ status: answer.statusCode!, body, headers: answer.headers }))
        })
          .once('error', reject)
          .end(method === 'POST' ? '{"part":"app-1"}' : undefined)
      })
    const token = new URL(acts.url).searchParams.get('token')!
    const authorization = `Bearer ${token}`
    for (const where of [
      '/about',
      '/view/fleet',
      '/live?view=fleet',
      '/content/mail',
      '/view/x',
      `/about?token=${token}`,
    ])
      assert.equal((await ask(where)).status, 401, where)
    assert.equal((await ask('/view/fleet', { authorization: `${authorization}x` })).status, 401)
    assert.equal((await ask('/view/fleet', { cookie: `token=${token}` })).status, 401)
    assert.equal((await ask('/do/kill', {}, 'POST')).status, 401)
    // The pages themselves are the same for everybody, and say nothing of the app.
    for (const where of ['/', '/topology', '/page/console.js'])
      assert.doesNotMatch((await ask(where)).body, /ledger|app-1/, where)
    assert.equal((await ask('/', { host: 'evil.example' })).status, 421)
    const about = await ask('/about', { authorization })
    const { passes } = JSON.parse(about.body) as { passes: Record<string, string> }
    assert.equal((await ask(`/view/fleet?pass=${passes.live}`)).status, 401)
    assert.equal((await ask(`/live?view=fleet&pass=${passes.content}`)).status, 401)
    assert.equal((await ask('/view/fleet', { authorization })).status, 200)
    assert.equal((await ask('/view/fleet', { authorization, host: 'evil.example' })).status, 421)
    assert.equal((await ask('/do/kill', { authorization, origin: 'https://evil.example' }, 'POST')).status, 403)
    assert.equal((await ask('/do/kill', { authorization }, 'POST')).status, 403)
    for (const where of [
      '/page/..%2fserver.ts',
      '/page/../server.ts',
      '/page/console.ts',
      '/view/constructor',
      '/do/x',
    ])
      assert.match((await ask(where, { authorization })).body, /Nothing is here|<!doctype html>/, where)
    // Its secrets are in no answer, and it is not at the app's port.
    const fleet = await ask('/view/fleet', { authorization })
    for (const { body } of [fleet, about]) assert.doesNotMatch(body, new RegExp(token))
    assert.equal((await fetch(`${facts.url}/view/fleet`)).status, 404)
  })

  it('says why a number of parts cannot be changed here', async () => {
    const { page } = await visit(acts)
    const said = await page.evaluate(async () => {
      const headers = { authorization: `Bearer ${localStorage.getItem('token')}` }
      const answer = await fetch('/do/scale', { method: 'POST', headers, body: JSON.stringify({ worker: '1' }) })
      return (await answer.json()) as { error?: { message: string } }
    })
    assert.match(String(said.error?.message), /Rung 100k has workers/)
    await page.context().close()
  })

  it('takes options of a view only where it has them', async () => {
    const { page } = await visit(shows)
    const read = (where: string) =>
      page.evaluate(async (to) => {
        const headers = { authorization: `Bearer ${localStorage.getItem('token')}` }
        return (await fetch(to, { headers })).json() as Promise<{ error?: { code: string } }>
      }, where)
    assert.equal((await read('/view/fleet?data=/etc')).error?.code, 'COMMAND_INVALID')
    assert.equal((await read('/view/record?since=--help')).error?.code, 'COMMAND_INVALID')
    assert.equal((await read('/view/record?since=2h')).error, undefined)
    await page.context().close()
  })

  it('climbs, and follows the climb; scales where a number of parts can change', async () => {
    const { page } = await visit(acts)
    const questions: string[] = []
    page.on('dialog', (dialog) => {
      questions.push(dialog.message())
      return dialog.accept()
    })
    const to = (name: string) => page.getByRole('link', { name, exact: true }).click()
    await page.getByRole('button', { name: /limb to 10k/ }).click()
    await to('Topology')
    await page.getByRole('row').filter({ hasText: 'worker-1' }).getByText('running').waitFor()
    await done(page, 'climb 10k')
    await page.getByRole('heading', { name: /^10k at/ }).waitFor()
    await page.getByRole('button', { name: 'more worker' }).click()
    await page.getByRole('row').filter({ hasText: 'worker-2' }).getByText('running').waitFor()
    await done(page, 'scale worker=2')
    assert.equal(questions.at(-1), 'Scale worker from 1 to 2?')
    assert.equal(await page.getByRole('button', { name: 'more web' }).count(), 0, 'no balancer runs')
    await page.getByRole('button', { name: 'less worker' }).click()
    await done(page, 'scale worker=1')
    assert.equal(await page.getByRole('row').filter({ hasText: 'app-1' }).count(), 0)
    await to('Ladder')
    await page.getByRole('button', { name: 'Take the last climb back' }).click()
    await to('Topology')
    await done(page, 'undo climb')
    await page.getByRole('heading', { name: /^1k at/ }).waitFor()
    assert.equal(await page.getByRole('heading', { name: 'Scale' }).count(), 0)
    await page.context().close()
  })

  it('ends with its command, and keeps its token', async () => {
    const before = new URL(shows.url).searchParams.get('token')
    sameExit(await showing.stop(), 0)
    const again = scratch.launch({ command: ['console', '--port', '0', '--json'] })
    assert.equal(new URL(await urlOf(again)).searchParams.get('token'), before)
    sameExit(await again.stop(), 0)
  })
})
