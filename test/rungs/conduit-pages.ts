import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { until } from '../support/process.ts'
import { type Target, unique } from './conduit-client.ts'
import { noise } from './conduit-pictures.ts'
import { visitor } from './conduit-visitor.ts'

/** The pages, without JavaScript: at every rung, as the API is. */
export function pageTests(target: Target): void {
  const someone = () => visitor(target)

  describe('pages', { concurrency: 8 }, () => {
    it('all of them are there for the anonymous, or lead to the sign-in and back', async () => {
      const author = someone()
      const { username, email, password } = await author.signUp()
      const article = await author.publish()
      for (const path of [
        '/',
        article,
        `/profile/${username}`,
        `/profile/${username}/favorites`,
        '/login',
        '/register',
        '/search',
      ]) {
        const { status, headers, text } = await someone().get(path)
        assert.equal(status, 200, path)
        assert.equal(headers.get('content-type'), 'text/html; charset=utf-8', path)
        assert.match(headers.get('content-security-policy')!, /script-src 'self';/, path)
        assert.match(text, /^<!doctype html>/, path)
        assert.doesNotMatch(text, /New Article/, path)
      }
      assert.equal((await someone().get('/?feed=following')).path, '/login')
      for (const path of ['/settings', '/editor', article.replace('/article/', '/editor/')]) {
        const reader = someone()
        assert.equal((await reader.get(path)).path, `/login?to=${encodeURIComponent(path)}`)
        const { path: ended, status } = await reader.send('/login', { email, password, to: path })
        assert.deepEqual([ended, status], [path, 200])
      }
    })

    it('a form that is refused comes back with what was in it and what is wrong', async () => {
      const { username } = await someone().signUp()
      const seen = await someone().send('/register', { username, email: 'no address', password: 'short' })
      assert.equal(seen.status, 422)
      assert.match(seen.text, new RegExp(`name="username"[^>]* value="${username}"`))
      assert.match(seen.text, /<ul class="error-messages"><li id="\w+-error">(Email is invalid|Password is too short)/)
      assert.doesNotMatch(seen.text, /short"/, 'a password is not sent back')
      const taken = await someone().send('/register', {
        username,
        email: `${username}@example.org`,
        password: 'long enough',
      })
      assert.equal(taken.status, 409)
      assert.match(taken.text, /Username has already been taken/)
      const wrong = await someone().send('/login', { email: `${username}@example.com`, password: 'not it' })
      assert.equal(wrong.status, 401)
      assert.match(wrong.text, /role="alert"><ul class="error-messages"><li>Email or password is wrong\./)
    })

    it('a form of very many fields is refused before it is taken apart', async () => {
      const send = (fields: number) =>
        fetch(`${target().baseUrl}/login`, {
          method: 'POST',
          headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' },
          body: 'a&'.repeat(fields),
        })
      assert.match(await (await send(500_000)).text(), /too many fields/)
    })

    it('an article is written, changed and deleted, and everybody sees that at once', async () => {
      const [author, reader, anonymous] = [someone(), someone(), someone()]
      const { username } = await author.signUp()
      await reader.signUp()
      const title = unique('On ladders')
      const home = () => anonymous.get(`/profile/${username}`)
      assert.doesNotMatch((await home()).text, new RegExp(title))
      const path = await author.publish({
        title,
        body: '# One\n\n**two** <script>alert(1)</script>',
        tags: 'a tag, another',
      })
      for (const who of [author, reader, anonymous]) {
        const { text } = await who.get(path)
        assert.match(text, /<h1>One<\/h1>\n<p><strong>two<\/strong> &lt;script&gt;/)
        assert.match(text, /href="\/tag\/a%20tag"/)
      }
      assert.match((await home()).text, new RegExp(title))
      const edited = await author.send(path.replace('/article/', '/editor/'), {
        title,
        description: 'Changed',
        body: 'Other words',
        tags: '',
      })
      assert.equal(edited.path, path)
      for (const who of [anonymous, reader, author]) {
        const { text } = await who.get(path)
        assert.match(text, /<p>Other words<\/p>/)
        assert.doesNotMatch(text, /a tag/)
      }
      assert.equal((await reader.send(`${path}/delete`)).status, 403)
      assert.equal((await author.send(`${path}/delete`)).path, '/')
      for (const who of [reader, anonymous, author]) assert.equal((await who.get(path)).status, 404)
      assert.doesNotMatch((await home()).text, new RegExp(title))
    })

    it('a favorite, a follow and a comment are seen by the one who made them and by the others', async () => {
      const [author, reader, anonymous] = [someone(), someone(), someone()]
      const { username } = await author.signUp()
      const { username: readerName } = await reader.signUp()
      const path = await author.publish()
      const feedBefore = await reader.get('/?feed=following')
      assert.doesNotMatch(feedBefore.text, new RegExp(path))
      for (const round of [1, 2, 3]) {
        await anonymous.get(path)
        const on = String(round % 2 === 1)
        const { text } = await reader.send(`${path}/favorite`, { favorite: on, back: path })
        assert.match(text, new RegExp(`♥</span> <span>${round % 2}</span>`))
        assert.match(text, on === 'true' ? /Unfavorite/ : / Favorite/)
        assert.match((await anonymous.get(path)).text, new RegExp(`♥</span> <span>${round % 2}</span>`))
        await reader.send(`/profile/${username}/follow`, { following: on, back: path })
        const feed = await reader.get('/?feed=following')
        assert.equal(feed.text.includes(path), on === 'true')
        const words = unique('Well said')
        const commented = await reader.send(`${path}/comments`, { body: words })
        assert.match(commented.text, new RegExp(words))
        for (const who of [anonymous, author]) assert.match((await who.get(path)).text, new RegExp(words))
      }
      const { text } = await reader.get(path)
      const [, remove] = new RegExp(`action="(${path}/comments/\\d+/delete)"`).exec(text)!
      assert.equal((await author.send(remove!)).status, 403)
      const before = text.split('id="comment-').length
      assert.equal((await reader.send(remove!)).text.split('id="comment-').length, before - 1)
      assert.equal((await anonymous.get(path)).text.split('id="comment-').length, before - 1)
      assert.match((await anonymous.get(`/profile/${readerName}/favorites`)).text, new RegExp(path))
    })

    it('settings change what everybody sees; a new password ends all other sessions', async () => {
      const [owner, elsewhere, anonymous] = [someone(), someone(), someone()]
      const { username, email, password } = await owner.signUp()
      await elsewhere.send('/login', { email, password })
      const path = await owner.publish()
      await anonymous.get(path)
      const renamed = unique('renamed')
      const changed = {
        ...{ username: renamed, email, bio: 'All about me', image: '' },
        ...{ password: 'another horse', currentPassword: password },
      }
      assert.equal((await owner.send('/settings', { ...changed, currentPassword: 'not it at all' })).status, 403)
      const seen = await owner.send('/settings', changed)
      assert.equal(seen.path, `/profile/${renamed}`)
      assert.match(seen.text, /All about me/)
      assert.match(seen.text, /New Article/)
      for (const who of [anonymous, owner])
        assert.match((await who.get(path)).text, new RegExp(`rel="author">${renamed}<`))
      assert.equal((await anonymous.get(`/profile/${username}`)).status, 404)
      for (let attempt = 0; ; attempt += 1) {
        // Within a second, and on whichever process.
        if (!/New Article/.test((await elsewhere.get('/')).text)) break
        assert.ok(attempt < 2_000, 'the other session goes on')
      }
      assert.equal((await elsewhere.send('/login', { email, password })).status, 401)
      await owner.send('/logout')
      assert.doesNotMatch((await owner.get('/')).text, /New Article/)
    })

    it('a picture is sent with a form, and shown where its owner is', async () => {
      const [owner, anonymous] = [someone(), someone()]
      const { username, email } = await owner.signUp()
      const path = await owner.publish()
      /** The picture of a settings page, a profile or an article's author, unless it is one of initials. */
      const shown = (text: string) =>
        /<img class="picture (?:user|author)-img" src="(?![^"]*default-avatar\.svg")([^"]+)"/.exec(text)?.[1]
      const send = (content: Uint8Array) => owner.sendFile('/settings/picture', 'picture', content)
      assert.equal(shown((await anonymous.get(path)).text), undefined)
      const sent = await send(await noise(600, 400))
      assert.deepEqual([sent.status, sent.path], [200, '/settings'])
      assert.ok(/being made/.test(sent.text) || shown(sent.text))
      const image = await until(async () => shown((await owner.get('/settings')).text), 'it is made')
      for (const page of [path, `/profile/${username}`])
        await until(async () => shown((await anonymous.get(page)).text) === image, `${page} shows it`)
      assert.equal((await anonymous.get(image)).headers.get('content-type'), 'image/webp')
      await owner.send('/settings', { username, email, bio: 'Seen', image: '', password: '' })
      assert.equal(shown((await anonymous.get(`/profile/${username}`)).text), image, 'other settings leave it')

      const large = Buffer.concat([await noise(100, 100), Buffer.alloc(5 * 1024 ** 2)])
      for (const [content, why] of [
        [large, 'Picture is larger than 5 MB'],
        [Buffer.from('GIF89a'), 'Picture is no PNG, JPEG or WebP'],
        [Buffer.alloc(0), 'Picture is no PNG, JPEG or WebP'],
      ] as const) {
        const { status, text } = await send(content)
        assert.equal(status, 200)
        assert.match(text, new RegExp(`id="picture-error">${why}<`))
        assert.equal(shown(text), image)
      }
      const whole = await noise(100, 100, 'png')
      const beginning = '--b\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
      for (const [body, type] of [
        [Buffer.concat([Buffer.from(beginning), whole]), 'multipart/form-data; boundary=b'], // ends too early
        [beginning.replace('picture', 'other'), 'multipart/form-data; boundary=b'],
        ['--b--', 'multipart/form-data; boundary=b'],
        ['picture', 'multipart/form-data'],
      ] as const) {
        const { text } = await owner.sendBody('/settings/picture', body, { 'content-type': type })
        assert.match(text, /id="picture-error">Picture could not be taken; try again</)
        assert.equal(shown(text), image)
      }
      await send(whole.subarray(0, whole.length / 2))
      const failed = await until(async () => {
        const { text } = await owner.get('/settings')
        return /id="picture-error">/.test(text) && text
      }, 'it has failed')
      assert.match(failed, /id="picture-error">Picture cannot be read</)
      assert.equal(shown(failed), image)

      const led = await someone().sendFile('/settings/picture', 'picture', whole)
      assert.equal(led.path, '/login?to=/settings')
      const forced = await owner.sendFile('/settings/picture', 'picture', whole, { 'sec-fetch-site': 'cross-site' })
      assert.equal(forced.status, 403)
      assert.equal(shown((await owner.send('/settings/picture/remove')).text), undefined)
      await until(async () => shown((await anonymous.get(path)).text) === undefined, 'it is gone')
    })

    it('lists have pages, tags and a search', async () => {
      const author = someone()
      const { username } = await author.signUp()
      const [tag, word] = [unique('tag'), unique('word').replaceAll('-', '')]
      for (let n = 0; n < 11; n += 1) await author.publish({ tags: tag, title: `${word} number ${n}` })
      const first = await someone().get(`/tag/${tag}`)
      assert.equal(first.text.split('class="article-preview"').length - 1, 10)
      const [, next] = /<a rel="next" href="([^"]+)"/.exec(first.text)!
      const second = await someone().get(next!.replaceAll('&amp;', '&'))
      assert.equal(second.text.split('class="article-preview"').length - 1, 1)
      assert.match(second.text, /number 0/)
      const found = await author.get(`/search?q=${word}&author=${username}`)
      assert.match(found.text, /11 articles for/)
      assert.match(found.text, new RegExp(`<mark>${word}</mark>`))
      assert.match(found.text, new RegExp(`author=${username}&amp;tag=${tag}|tag=${tag}&amp;author=${username}`))
    })

    it('a picture is an address of the web or of this app, and nothing that only looks like one', async () => {
      const owner = someone()
      const { username, email } = await owner.signUp()
      const chosen = async (image: string) => {
        assert.equal((await owner.send('/settings', { username, email, bio: '', image, password: '' })).status, 200)
        return !(await owner.get(`/profile/${username}`)).text.includes('default-avatar.svg')
      }
      for (const image of ['https://pictures.example/x.png', '/pictures/x.png']) assert.ok(await chosen(image), image)
      for (const image of ['/\\evil.example/x', '//evil.example/x', '/\t/evil.example/x', 'data:image/png;base64,AA'])
        assert.ok(!(await chosen(image)), image)
    })

    it('another site can neither act for a visitor nor lead him away', async () => {
      const victim = someone()
      const { email, password } = await victim.signUp()
      const path = await victim.publish()
      for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }]) {
        assert.equal((await victim.send(`${path}/delete`, {}, headers)).status, 403)
        assert.equal((await someone().send('/login', { email, password }, headers)).status, 403)
      }
      assert.equal((await victim.get(path)).status, 200)
      for (const to of [
        '//evil.example',
        '/\\evil.example',
        'https://evil.example/',
        'javascript:alert(1)',
        '/\t/evil.example',
      ]) {
        assert.equal((await someone().send('/login', { email, password, to })).path, '/')
      }
    })

    it('what is not there is a page for people, and JSON for programs', async () => {
      for (const path of ['/nowhere', '/article/none', '/profile/nobody-at-all', '/-/assets/pages/none.css']) {
        const { status, headers } = await someone().get(path)
        assert.equal(status, 404)
        assert.equal(/^text\/html/.test(headers.get('content-type')!), !path.startsWith('/-/'), path)
      }
      const { status, headers } = await someone().get('/api/nowhere')
      assert.deepEqual([status, headers.get('content-type')], [404, 'application/json; charset=utf-8'])
    })

    it('assets are kept for ever under their own name, and by nobody under another', async () => {
      const { text } = await someone().get('/')
      for (const [, url] of text.matchAll(/(?:href|src)="(\/-\/assets\/[^"]+)"/g)) {
        const { status, headers } = await someone().get(url!, { 'accept-encoding': 'br' })
        assert.equal(status, 200)
        assert.equal(headers.get('cache-control'), 'public, max-age=31536000, immutable')
        const other = await someone().get(url!.replace(/\.[\w-]{12}\./, '.aaaaaaaaaaaa.'))
        assert.deepEqual([other.status, other.headers.get('cache-control')], [200, 'no-cache'])
      }
    })
  })
}
