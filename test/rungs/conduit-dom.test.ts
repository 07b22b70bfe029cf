import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Locator, Page } from 'playwright-core'
import conduit from '../../examples/conduit/app.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import album from '../support/apps/album/app.ts'
import { violationsOf } from '../support/axe.ts'
import { desktop, noBrowser, openBrowser, phone } from '../support/browser.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { conduitClient, unique } from './conduit-client.ts'

const password = 'correct horse'

/** What public tests and themes of Conduit find its pages by. Locators are strict: each of these is there once. */
describe('the DOM of Conduit’s pages', { skip: noBrowser, concurrency: 2 }, () => {
  let dataDir: string
  let postgres: TestPostgres
  let running: Running
  let letters: Running
  let browser: Awaited<ReturnType<typeof openBrowser>>
  before(async () => {
    dataDir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres, { dataDir: path.join(dataDir, 'conduit') })
    letters = await bootForTest(album, postgres, { dataDir: path.join(dataDir, 'album') })
    browser = await openBrowser()
  })
  after(async () => {
    await browser?.close()
    await running?.stop()
    await letters?.stop()
    await postgres?.stop()
    await rm(dataDir, { recursive: true, force: true })
  })

  const target = () => ({ baseUrl: running.url })
  const api = conduitClient(target)
  const url = (at: string) => new URL(at, running.url).href
  const open = async (options?: Parameters<typeof browser.visit>[0]) => (await browser.visit(options)).page
  const isThere = (...found: Locator[]) => Promise.all(found.map((one) => one.waitFor()))
  const button = (page: Page, text: string) => page.locator(`button:has-text("${text}")`)
  const addressIs = (page: Page, at: string) => page.waitForURL(url(at))
  const hasDefault = async (image: Locator) =>
    assert.match((await image.getAttribute('src')) ?? '', /default-avatar\.svg$/)

  async function fill(page: Page, fields: Record<string, string>): Promise<void> {
    for (const [name, value] of Object.entries(fields)) await page.locator(`[name="${name}"]`).fill(value)
  }

  async function signUp(page: Page): Promise<{ username: string; email: string }> {
    const username = unique('reader')
    const email = `${username}@example.com`
    await page.goto(url('/register'))
    assert.equal(await page.locator('h1').textContent(), 'Sign up')
    await fill(page, { username, email, password })
    await page.locator('button[type="submit"]').click()
    await addressIs(page, '/')
    return { username, email }
  }

  it('a visitor signs up, out, and in again', async () => {
    const page = await open()
    const { username, email } = await signUp(page)
    await isThere(page.locator('nav.navbar a.navbar-brand'), page.locator('nav a.nav-link.active:has-text("Home")'))
    for (const at of ['/editor', '/settings', `/profile/${username}`]) await isThere(page.locator(`a[href="${at}"]`))
    await hasDefault(page.locator('nav .user-pic'))
    await page.locator('a[href="/settings"]').click()
    await page.locator('button.btn-outline-danger:has-text("Or click here to logout")').click()
    await addressIs(page, '/')
    assert.equal(await page.locator(`a[href="/profile/${username}"]`).count(), 0)
    await page.locator('a[href="/login"]').click()
    assert.equal(await page.locator('h1').textContent(), 'Sign in')
    await fill(page, { email, password: 'not it at all' })
    await page.locator('button[type="submit"]').click()
    await isThere(page.locator('ul.error-messages li'))
    await addressIs(page, '/login')
    await fill(page, { email, password })
    await page.locator('button[type="submit"]').click()
    await isThere(page.locator(`nav a[href="/profile/${username}"]`))
  })

  it('a form that is refused lists what is wrong, beside what was in it', async () => {
    const page = await open()
    const { username } = await api.person()
    await page.goto(url('/register'))
    await isThere(page.getByRole('link', { name: 'Sign in' }), page.locator('a[href="/login"]'))
    await fill(page, { username, email: `${unique('other')}@example.com`, password })
    await page.locator('button[type="submit"]').click()
    await isThere(page.locator('ul.error-messages li:has-text("has already been taken")'))
    await addressIs(page, '/register')
    assert.equal(await page.locator('[name="username"]').getAttribute('aria-describedby'), 'username-error')
    await isThere(page.locator('#username-error'))
  })

  it('an article is written with tags, changed and deleted', async () => {
    const page = await open()
    const title = unique('Ladders')
    await signUp(page)
    await page.goto(url('/editor'))
    const field = page.locator('input[placeholder="Enter tags"]')
    const pills = page.locator('.tag-list .tag-pill')
    for (const tag of ['wood', 'steel', 'wood']) {
      await field.fill(tag)
      await field.press('Enter')
    }
    assert.equal(await pills.count(), 2)
    await pills.filter({ hasText: 'wood' }).locator('i').click()
    await field.fill('rope')
    await fill(page, { title, description: 'How to climb', body: '# Up\n\nStart **small**.\n\n- one' })
    await button(page, 'Publish Article').click()
    await page.waitForURL(/\/article\/./)
    const at = new URL(page.url()).pathname
    await isThere(
      page.locator('.article-page > header h1'),
      page.locator('.article-content h1:has-text("Up")'),
      page.locator('.article-content li:has-text("one")'),
      page.locator('.tag-list .tag-default.tag-pill:has-text("steel")'),
      page.locator('.tag-list .tag-default.tag-pill:has-text("rope")'),
      page.locator('.article-meta a.author'),
    )
    assert.equal(await page.locator('.tag-list .tag-default').count(), 2)
    await hasDefault(page.locator('.article-meta img'))

    await page.locator('a:has-text("Edit Article")').click()
    assert.equal(await page.locator('.tag-list .tag-pill').count(), 2)
    assert.equal(await field.inputValue(), '')
    await page.locator('.tag-list .tag-pill i').first().click()
    await page.locator('.tag-list .tag-pill i').first().click()
    await page.locator('[name="title"]').fill(`${title} again`)
    await button(page, 'Publish Article').click()
    await isThere(page.locator(`h1:has-text("${title} again")`))
    assert.equal(await page.locator('.tag-list .tag-default').count(), 0)

    await button(page, 'Delete Article').click()
    await addressIs(page, '/')
    assert.equal(await page.locator(`h1:has-text("${title}")`).count(), 0)
    assert.equal((await page.request.get(url(at))).status(), 404)
  })

  it('a reader favours, follows and comments, and takes each back', async () => {
    const page = await open()
    const author = await api.person()
    const { title, slug } = await api.article(author)
    const { username } = await signUp(page)
    await page.goto(url('/?feed=following'))
    await isThere(
      page.locator('.feed-toggle .nav-link.active:has-text("Your Feed")'),
      page.locator('.empty-feed-message:has-text("Your feed is empty") a[href="/"]'),
    )
    await page.goto(url(`/profile/${author.username}`))
    const preview = page.locator('.article-preview')
    await isThere(preview.locator('h1'), preview.locator('p'), preview.locator('.author'))
    await preview.locator('button.btn-outline-primary').click()
    await isThere(preview.locator('button.btn-primary'))
    await preview.locator('a.preview-link').click()
    await isThere(button(page, 'Unfavorite'))
    await page.locator('button.btn-primary:has-text("Unfavorite")').click()
    await page.locator('button.btn-outline-primary:has-text("Favorite")').click()
    await isThere(page.locator('button.btn-primary:has-text("Unfavorite")'))
    await button(page, `Follow ${author.username}`).click()
    await isThere(button(page, `Unfollow ${author.username}`))

    const comment = page.locator('.card:not(.comment-form) .card-block')
    await hasDefault(page.locator('.comment-form .comment-author-img'))
    await page.locator('textarea[placeholder="Write a comment..."]').fill('Well said.')
    await button(page, 'Post Comment').click()
    await isThere(comment.filter({ hasText: 'Well said.' }))
    await hasDefault(page.locator('.card:not(.comment-form) .comment-author-img'))
    assert.equal(await page.locator('textarea[placeholder="Write a comment..."]').inputValue(), '')
    await page.locator('.card:not(.comment-form) .mod-options i.ion-trash-a').click()
    await comment.waitFor({ state: 'detached' })

    await page.goto(url('/'))
    await page.locator('.nav-link:has-text("Your Feed")').click()
    await addressIs(page, '/?feed=following')
    await isThere(page.locator(`.article-preview h1:has-text("${title}")`))
    await page.goto(url(`/profile/${username}`))
    await page.locator('a:has-text("Favorited")').click()
    await addressIs(page, `/profile/${username}/favorites`)
    await isThere(page.locator(`.article-preview a.preview-link[href="/article/${slug}"]`))
    await page.goto(url(`/profile/${author.username}`))
    await button(page, `Unfollow ${author.username}`).click()
    await isThere(button(page, `Follow ${author.username}`))
  })

  it('a visitor who has to sign in is led there, and back', async () => {
    const page = await open()
    const author = await api.person()
    const { slug } = await api.article(author)
    const at = `/article/${slug}`
    await page.goto(url('/?feed=following'))
    await addressIs(page, '/login')
    for (const closed of ['/editor', `/editor/${slug}`, '/settings']) {
      await page.goto(url(closed))
      assert.equal(new URL(page.url()).pathname, '/login')
    }
    for (const text of ['Favorite', `Follow ${author.username}`]) {
      await page.goto(url(at))
      await isThere(page.locator('a[href="/login"]'))
      assert.equal(await page.locator('textarea').count(), 0)
      await button(page, text).click()
      await page.waitForURL(/\/login\?/)
    }
    const reader = await api.person()
    await fill(page, { email: reader.email, password: reader.password })
    await page.locator('button[type="submit"]').click()
    await addressIs(page, at)
  })

  it('tags and pages of a list have addresses', async () => {
    const page = await open()
    const author = await api.person()
    const tag = unique('tag')
    for (let n = 0; n < 21; n += 1) await api.article(author, { tagList: [tag], title: `${tag} ${n}` })
    await page.goto(url(`/article/${(await api.article(author, { tagList: [tag] })).slug}`))
    await page.locator(`a.tag-pill:has-text("${tag}")`).click()
    await addressIs(page, `/tag/${tag}`)
    await isThere(page.locator(`.nav-link.active:has-text("${tag}")`))
    assert.equal(await page.locator('.article-preview').count(), 10)
    await page.locator('.pagination button.page-link:has-text("3")').click()
    await addressIs(page, `/tag/${tag}?page=3`)
    await isThere(page.locator('.pagination .page-item.active:has-text("3")'))
    assert.equal(await page.locator('.article-preview').count(), 2)
    await page.locator('a[rel="prev"]').click()
    await isThere(page.locator('.pagination .page-item.active:has-text("2")'))
    await page.locator('.nav-link:has-text("Global Feed")').click()
    await addressIs(page, '/')
    await isThere(page.locator('.banner h1'), page.locator('.sidebar .tag-list'))
  })

  it('settings change a profile, and a picture from the web takes the place of initials', async () => {
    const page = await open()
    const { username } = await signUp(page)
    await page.goto(url(`/profile/${username}`))
    await isThere(page.locator('.profile-page .user-info'), page.locator(`h4:has-text("${username}")`))
    assert.equal(await page.locator('.user-info p').textContent(), '')
    await hasDefault(page.locator('.user-img'))
    await page.locator('a:has-text("Edit Profile Settings")').click()
    assert.equal(await page.locator('[name="image"]').inputValue(), '')
    const renamed = unique('renamed')
    const image = 'https://example.com/me.png'
    await fill(page, { username: renamed, bio: 'All about me', image })
    await button(page, 'Update Settings').click()
    await addressIs(page, `/profile/${renamed}`)
    await isThere(
      page.locator('.user-info:has-text("All about me")'),
      page.locator(`.user-img[src="${image}"]`),
      page.locator(`nav.navbar a[href="/profile/${renamed}"]`),
    )
    const initials = await page.request.get(url('/initials/%3Cb%3E-zo%C3%AB/default-avatar.svg'))
    assert.equal(initials.headers()['content-type'], 'image/svg+xml; charset=utf-8')
    assert.match(await initials.text(), />BZ<\/text>/)
  })

  it('a new password needs the current one, unless its owner has just signed in', async () => {
    const username = unique('owner')
    const fields = { username, email: `${username}@example.com`, bio: '', image: '' }
    const { email } = fields
    const send = (at: string, body: Record<string, string>, cookie = '') =>
      fetch(url(at), {
        ...{ method: 'POST', redirect: 'manual', body: new URLSearchParams(body) },
        headers: { cookie, accept: 'text/html', 'sec-fetch-site': 'same-origin' },
      })
    const change = (signedIn: Response, changed: string) =>
      send(
        '/settings',
        { ...fields, password: changed },
        signedIn.headers
          .getSetCookie()
          .map((one) => one.split(';')[0]!)
          .join('; '),
      )
    const fresh = await send('/register', { username, email, password })
    assert.equal((await change(fresh, 'another horse')).status, 303)
    const old = await send('/login', { email, password: 'another horse' })
    const client = await connectOnce(running.server.connection)
    // As if it had been long ago, for all sessions of this account; none of them was read since.
    const { rowCount } = await client.query(
      `update rung.session set created_at = created_at - interval '16 minutes'
       where principal = (select id::text from identity.account where username = $1)`,
      [username],
    )
    await client.end()
    assert.ok(rowCount! > 0)
    const refused = await change(old, 'a third horse')
    assert.equal(refused.status, 422)
    assert.match(await refused.text(), /<li id="currentPassword-error">/)
  })

  for (const [size, screen] of Object.entries({ desktop, phone })) {
    for (const colorScheme of ['light', 'dark'] as const) {
      it(`axe finds nothing serious, and nothing is wider than the screen: ${size}, ${colorScheme}`, async () => {
        const author = await api.person()
        const { slug } = await api.article(author, { tagList: ['axe'], body: '# A heading\n\n`code`\n\n> quoted' })
        await api.comment(author, slug)
        assert.equal((await fetch(new URL('/invite/Eve', letters.url), { method: 'POST' })).status, 200)
        const inbox = new URL('/-/mail', letters.url)
        const [, mail] = /href="(\/-\/mail\/[^"]+)"/.exec(await (await fetch(inbox)).text())!
        const page = await open({ ...screen, colorScheme })
        const look = async (at: string | URL) => {
          await page.goto(String(at))
          if (page.url() === url('/reference')) {
            await page.locator('.opblock-put .opblock-summary-control').first().click()
            await isThere(page.locator('.opblock-body textarea[aria-label]'))
          }
          const wider = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
          assert.deepEqual([await violationsOf(page), await page.evaluate(wider)], [[], 0], page.url())
        }
        for (const at of [inbox, new URL(mail!, inbox), url('/reference')]) await look(at)
        for (const at of ['/', '/search?q=words', `/profile/${author.username}`, '/login']) await look(url(at))
        await fill(page, { email: author.email, password: author.password })
        await page.locator('button[type="submit"]').click()
        await addressIs(page, '/')
        for (const at of ['/?feed=following', '/editor', '/settings', `/article/${slug}`]) await look(url(at))
      })
    }
  }
})
