import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { desktop, noBrowser, openBrowser, phone } from '../support/browser.ts'
import { until } from '../support/process.ts'
import { conduitClient, expectBody, type Target, unique } from './conduit-client.ts'
import { noise } from './conduit-pictures.ts'

/** The picture of somebody who has chosen none. */
const initials = '[src$="default-avatar.svg"]'

/** The main journeys in a real browser. */
export function browserTests(target: Target): void {
  describe('in a browser', { skip: noBrowser }, () => {
    let browser: Awaited<ReturnType<typeof openBrowser>>
    before(async () => {
      browser = await openBrowser()
    })
    after(() => browser?.close())

    for (const [name, options] of [
      ['on a desk', desktop],
      ['on a phone', phone],
      ['without JavaScript', { ...desktop, javaScriptEnabled: false }],
    ] as const) {
      it(`signs up, writes, comments, favors, follows and leaves, ${name}`, async () => {
        const { page, complaints } = await browser.visit(options)
        const { page: other } = await browser.visit(options)
        const url = (path: string) => new URL(path, target().baseUrl).href
        const [author, reader, title] = [unique('author'), unique('reader'), unique('Ladders')]
        for (const [who, tab] of [
          [author, page],
          [reader, other],
        ] as const) {
          await tab.goto(url('/'))
          await tab.getByRole('link', { name: 'Sign up' }).click()
          await tab.getByLabel('Username').fill(who)
          await tab.getByLabel('Email').fill(`${who}@example.com`)
          await tab.getByLabel('Password').fill('correct horse')
          await tab.getByRole('button', { name: 'Sign up' }).click()
          await tab.getByRole('link', { name: who }).waitFor()
        }

        await page.getByRole('link', { name: 'New Article' }).click()
        await page.getByLabel('Title').fill(title)
        await page.getByLabel('What it is about').fill('How to climb')
        await page.getByLabel('Text').fill('Start **small**.')
        await page.getByLabel('Tags').fill('ladders, rungs')
        await page.getByRole('button', { name: 'Publish Article' }).click()
        await page.getByRole('heading', { name: title }).waitFor()
        assert.equal(await page.locator('.prose strong').textContent(), 'small')

        await other.goto(url(`/profile/${author}`))
        await other.getByRole('heading', { name: title }).click()
        await other.getByRole('button', { name: `Follow ${author}` }).click()
        await other.getByRole('button', { name: `Unfollow ${author}` }).waitFor()
        await other.getByRole('button', { name: 'Favorite' }).click()
        await other.getByRole('button', { name: 'Unfavorite' }).waitFor()
        await other.getByLabel('Your comment').fill('Well said.')
        await other.getByRole('button', { name: 'Post Comment' }).click()
        await other.getByText('Well said.').waitFor()
        assert.equal(await other.getByLabel('Your comment').inputValue(), '')
        await other.getByRole('link', { name: 'conduit', exact: true }).first().click()
        await other.getByRole('link', { name: 'Your Feed' }).click()
        await other.getByRole('heading', { name: title }).waitFor()

        await page.reload()
        await page.getByText('Well said.').waitFor()
        await page.getByRole('button', { name: 'Delete Article' }).click()
        await page.waitForURL(url('/'))
        assert.equal(await page.getByRole('heading', { name: title }).count(), 0)
        await page.getByRole('link', { name: 'Settings' }).click()
        await page.getByRole('button', { name: 'Or click here to logout' }).click()
        await page.getByRole('link', { name: 'Sign in' }).waitFor()
        // Nothing that a script or a policy would not have.
        assert.deepEqual(complaints, [])
        const width = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        assert.equal(width, 0, 'nothing is wider than the screen')
      })
    }

    for (const [name, options] of [
      ['on a phone', phone],
      ['without JavaScript', { ...desktop, javaScriptEnabled: false }],
    ] as const) {
      it(`chooses a picture, ${name}`, async () => {
        const { page, complaints } = await browser.visit(options)
        const url = (path: string) => new URL(path, target().baseUrl).href
        const who = unique('painter')
        await page.goto(url('/register'))
        await page.getByLabel('Username').fill(who)
        await page.getByLabel('Email').fill(`${who}@example.com`)
        await page.getByLabel('Password').fill('correct horse')
        await page.getByRole('button', { name: 'Sign up' }).click()
        await page.getByRole('link', { name: 'Settings' }).click()
        const choose = (buffer: Buffer) =>
          page.locator('#picture').setInputFiles({ name: 'me.png', mimeType: 'image/png', buffer })
        await choose(Buffer.from('no picture'))
        await page.getByRole('button', { name: 'Send picture' }).click()
        await page.getByText('Picture is no PNG, JPEG or WebP').waitFor()
        await choose(await noise(900, 600, 'png'))
        await page.getByRole('button', { name: 'Send picture' }).click()
        const picture = page.locator(`.own-picture img:not(${initials})`)
        if ('isMobile' in options) await picture.waitFor()
        else await until(async () => (await page.goto(url('/settings'))) && (await picture.count()) === 1, 'it is made')
        const size = await picture.evaluate('document.querySelector(".own-picture img").naturalWidth')
        assert.equal(size, 256)
        await page.goto(url(`/profile/${who}`))
        await until(
          async () => (await page.reload()) && (await page.locator(`.user-info img:not(${initials})`).count()) === 1,
          'it is shown',
        )
        await page.goto(url('/settings'))
        await page.getByRole('button', { name: 'Remove picture' }).click()
        await page.locator(`.own-picture img${initials}`).waitFor()
        if ('isMobile' in options) {
          await choose(Buffer.alloc(5 * 1024 ** 2 + 1))
          await page.getByRole('button', { name: 'Send picture' }).click()
          assert.match(String(await page.evaluate('document.querySelector("#picture").validationMessage')), /too large/)
        }
        assert.deepEqual(complaints, [])
        const width = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        assert.equal(width, 0, 'nothing is wider than the screen')
      })
    }

    it('sees what was written, by anybody and by itself, at the next fetch', async () => {
      const { page } = await browser.visit()
      const api = conduitClient(target)
      await page.goto(new URL('/login', target().baseUrl).href)
      const read = (path: string) =>
        page.evaluate(async (path) => {
          const answer = await fetch(path)
          return { text: await answer.text(), control: answer.headers.get('cache-control') }
        }, path)
      const author = await api.person()
      const { slug } = await api.article(author, { title: unique('Fresh') })
      const path = `/api/articles/${slug}`
      for (let n = 0; n < 6; n += 1) {
        await read(path)
        const { text, control } = await read(path) // whatever it keeps, it has kept now
        assert.match(control!, /no-cache/)
        const description = unique('Written')
        assert.ok(!text.includes(description))
        expectBody(await api.put(`/articles/${slug}`, { article: { description } }, author.token))
        assert.ok((await read(path)).text.includes(description), `reading ${n} is old`)
        assert.ok((await read('/api/articles?limit=1')).text.includes(description), `list ${n} is old`)
      }
    })

    it('reports that an article is read, once in a tab, and not by its author', async () => {
      const { page } = await browser.visit()
      const api = conduitClient(target)
      const author = await api.person()
      const { slug } = await api.article(author)
      const url = new URL(`/article/${slug}`, target().baseUrl).href
      const reported = page.waitForResponse((answer) => answer.url().endsWith(`/api/articles/${slug}/views`))
      await page.goto(url)
      assert.equal((await reported).status(), 204)
      await page.reload()
      const read = async () =>
        (expectBody(await api.get(`/articles/${slug}/views`, author.token)) as never as { views: { total: number } })
          .views
      await until(async () => (await read()).total > 0, 'the view is counted')
      assert.equal((await read()).total, 1)
    })

    it('can be used with the keyboard alone', async () => {
      const { page } = await browser.visit()
      await page.goto(new URL('/login', target().baseUrl).href)
      await page.keyboard.press('Tab')
      assert.equal(await page.locator(':focus').textContent(), 'Skip to content')
      await page.keyboard.press('Enter')
      await page.keyboard.press('Tab')
      await page.keyboard.press('Tab')
      assert.equal(await page.locator(':focus').getAttribute('name'), 'email')
    })

    it('every page has a heading of the first order, names for its fields, and a language', async () => {
      const { page } = await browser.visit()
      for (const path of ['/', '/login', '/register', '/search', '/search?q=words', '/nowhere']) {
        await page.goto(new URL(path, target().baseUrl).href)
        assert.ok((await page.locator('h1').count()) > 0, path)
        assert.equal(await page.locator('html[lang]').count(), 1)
        for (const field of await page.locator('input:not([type=hidden]), textarea').all()) {
          const name = await field.evaluate((node: { labels?: { length: number } | null; ariaLabel?: string | null }) =>
            Boolean(node.labels?.length || node.ariaLabel),
          )
          assert.ok(name, `${path}: a field without a name`)
        }
        assert.equal(await page.locator('img:not([alt])').count(), 0, path)
      }
    })
  })
}
