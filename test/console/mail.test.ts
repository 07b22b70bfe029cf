import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { violationsOf } from '../support/axe.ts'
import { desktop, noBrowser, openBrowser, phone } from '../support/browser.ts'
import { isDrawn, urlOf } from '../support/console-pages.ts'
import { type Launched, launchRung, openScratch, type RungProcess, type Scratch, until } from '../support/process.ts'

const app = fileURLToPath(new URL('../support/apps/post/app.ts', import.meta.url))

interface Mails {
  view: { mails: { id: string; hasHtml: boolean }[] }
}

describe('what an app has done, on the console', { skip: noBrowser }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let running: RungProcess
  let browser: Awaited<ReturnType<typeof openBrowser>>
  let launched: Launched
  let url: string
  before(async () => {
    scratch = await openScratch()
    running = await scratch.start({ app, env: { NODE_ENV: 'development' } })
    for (const one of ['send', 'tidy', 'copy'])
      assert.equal((await fetch(`${running.url}/${one}`, { method: 'POST' })).status, 200)
    for (const one of ['slow', 'each']) assert.equal((await fetch(`${running.url}/${one}`)).status, 200)
    browser = await openBrowser()
    launched = launchRung({
      command: ['console', app, '--act', '--port', '0', '--json'],
      ...{ dataDir: scratch.dataDir, cwd: scratch.dir },
    })
    url = await urlOf(launched)
  })
  after(async () => {
    await browser?.close()
    await launched?.stop()
    await scratch?.end()
  })

  const at = (where: string) => new URL(where, url).href
  async function visit(options: object = desktop) {
    const visited = await browser.visit(options)
    visited.page.setDefaultTimeout(240_000) // a signal is waited for, however busy the machine is
    await visited.page.goto(url)
    return visited
  }

  it('shows a mail whose HTML runs nothing, sends nothing and loads nothing', async () => {
    const { page, complaints } = await visit()
    const answered: string[] = [] // other sites would answer, see openBrowser
    page.on('response', (response) => answered.push(response.url()))
    await page.goto(at('/mail'))
    await page.getByRole('link', { name: 'Your order' }).click()
    const frame = page.frameLocator('iframe')
    await frame.getByRole('heading', { name: 'Your order' }).waitFor()
    assert.equal(await frame.locator('iframe, object, embed').count(), 0, 'a frame connects to its server')
    await frame.getByRole('link', { name: 'a link' }).click()
    await frame.getByRole('button', { name: 'Open' }).click()
    await until(async () => complaints.some((one) => one.includes('form')), 'the form is refused')
    assert.match(await page.title(), /^Mail and files/)
    assert.deepEqual(
      answered.filter((one) => one.includes('tracker') || one.includes('/do/')),
      [],
    )
    assert.ok(
      complaints.some((one) => /tracker\.example\/seen\.gif.*Content Security Policy/.test(one)),
      complaints.join('\n'),
    )
    assert.ok(complaints.some((one) => one.startsWith('Blocked script execution')))
    // A mail without HTML is text, and its subject is no HTML.
    await page.getByRole('link', { name: 'Only <b>text</b>' }).click()
    await page.getByText('Nothing else.').waitFor()
    assert.equal(await page.locator('iframe').count(), 0)
    await page.context().close()
  })

  it('shows the content of others in a sandbox also where it is opened by itself', async () => {
    const { page } = await visit()
    const { mails, pass } = await page.evaluate(async () => {
      const headers = { authorization: `Bearer ${localStorage.getItem('token')}` }
      const read = async (where: string) => (await fetch(where, { headers })).json()
      const { view } = (await read('/view/mails')) as Mails
      const { passes } = (await read('/about')) as { passes: { content: string } }
      return { mails: view.mails, pass: passes.content }
    })
    const { id } = mails.find(({ hasHtml }) => hasHtml)!
    const answer = (await page.goto(at(`/content/mail?id=${id}&pass=${pass}`)))!
    const policy = answer.headers()['content-security-policy']!
    assert.match(policy, /^sandbox; default-src 'none';/)
    assert.doesNotMatch(policy, /allow-/)
    for (const where of ['mail?id=..%2fx', 'mail', 'picture?key=post/drawing.svg', 'picture?key=..%2f..%2frung.json'])
      assert.equal(
        (await page.goto(at(`/content/${where}${where.includes('?') ? '&' : '?'}pass=${pass}`)))!.status(),
        404,
        where,
      )
    assert.equal((await page.goto(at(`/content/mail?id=${id}`)))!.status(), 401)
    await page.context().close()
  })

  it('shows files, and small pictures of them', async () => {
    const { page } = await visit()
    await page.goto(at('/mail'))
    const row = page.getByRole('row').filter({ hasText: 'post/pictures/pixel.gif' })
    await row.getByText('image/gif').waitFor()
    await until(
      () => row.locator('img').evaluate((img) => (img as unknown as { naturalWidth: number }).naturalWidth === 1),
      'the picture is drawn',
    )
    assert.equal(await page.getByRole('row').filter({ hasText: 'drawing.svg' }).locator('img').count(), 0)
    await page.context().close()
  })

  it('shows slow statements with their plan, and N+1 with its route', async () => {
    const { page } = await visit()
    await page.goto(at('/data'))
    const slow = page.getByRole('row').filter({ hasText: 'GET /slow' }).filter({ hasText: 'pg_sleep' })
    await slow.locator('summary').click()
    await slow.getByText('Seq Scan on letter').waitFor()
    const again = page.getByRole('row').filter({ hasText: 'GET /each' }).filter({ hasText: 'post/app.ts' })
    await again.getByText('select text from post.letter where id = $1').first().waitFor()
    await page.getByRole('row').filter({ hasText: 'post.letter' }).first().waitFor()
    await page.context().close()
  })

  it('shows crons with their last run, the progress of a job, and runs all dead jobs of a queue again', async () => {
    const { page } = await visit()
    page.on('dialog', (dialog) => dialog.accept())
    await page.goto(at('/jobs'))
    await page.getByRole('row').filter({ hasText: 'post.sweep' }).getByText('done').waitFor()
    await page.getByRole('row').filter({ hasText: 'post.copy' }).getByText('40 % of the letters').waitFor()
    const dead = page.getByRole('row').filter({ hasText: 'the letters are stuck' }).filter({ hasText: '1 of 1' })
    const first = await dead.locator('time').first().getAttribute('datetime')
    await page.getByRole('button', { name: 'Retry all dead of post.tidy' }).click()
    await page.getByText('Done: retry dead jobs post.tidy').waitFor()
    await until(
      async () => (await dead.locator('time').first().getAttribute('datetime')) !== first,
      'it has run again, and is dead again',
    )
    await page.context().close()
  })

  it('has no serious flaw on these pages, wide and narrow, light and dark', async () => {
    for (const options of [
      { ...desktop, colorScheme: 'light' },
      { ...phone, colorScheme: 'dark' },
    ]) {
      const { page } = await visit(options)
      for (const one of ['/data', '/jobs', '/mail']) {
        await page.goto(at(one))
        await until(() => page.evaluate(isDrawn), `${one} is drawn`)
        const wide = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        assert.ok(Number(wide) <= 0, `${one} is wider than the screen by ${wide} px`)
        assert.deepEqual(await violationsOf(page), [], one)
      }
      await page.context().close()
    }
  })
})
