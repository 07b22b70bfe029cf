import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { conduitClient, type Target, unique } from './conduit-client.ts'
import { visitor } from './conduit-visitor.ts'

/** A private answer is stored by no shared cache, and nothing that one client sends reaches another. */
export function privacyTests(target: Target): void {
  const api = conduitClient(target)

  describe('shared caches', { concurrency: 4 }, () => {
    it('never have what was made for somebody', async () => {
      const member = visitor(target)
      const { username } = await member.signUp()
      const path = await member.publish()
      const paths = [
        path,
        `/profile/${username}`,
        `/profile/${username}/favorites`,
        '/',
        '/login',
        '/register',
        '/search?q=x',
        '/settings',
        '/editor',
      ]
      for (const one of paths) {
        // He is the first who asks.
        const own = await member.get(one)
        assert.match(own.text, /New Article/, one)
        assert.match(own.headers.get('cache-control') ?? 'none', /no-store/, one)
        for (let round = 0; round < 3; round += 1) {
          assert.doesNotMatch((await visitor(target).get(one)).text, /New Article/, one)
          assert.match((await member.get(one)).text, /New Article/, one)
        }
      }
    })

    it('nor an answer to a token, whatever it is sent as', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      await api.follow(reader, author.username)
      const path = `/api/articles/${slug}`
      for (const authorization of [
        `Token ${reader.token}`,
        `token ${reader.token}`,
        `Token  ${reader.token}`,
        'Token none',
        'Basic eDp5',
      ]) {
        await visitor(target).get(path, { authorization })
        const { status, text } = await visitor(target).get(path)
        assert.equal(status, 200, authorization)
        assert.equal(JSON.parse(text).article.author.following, false, authorization)
      }
    })

    it('nor an answer that sets a cookie', async () => {
      const { username } = await visitor(target).signUp()
      const other = visitor(target)
      const { headers } = await other.send('/login', { email: `${username}@example.com`, password: 'correct horse' })
      assert.equal(headers.get('age'), null)
      const anonymous = visitor(target)
      await anonymous.get('/')
      assert.equal(anonymous.cookies.has('session'), false)
    })

    it('and headers that somebody made up are in nobody’s page', async () => {
      const author = visitor(target)
      await author.signUp()
      const mark = unique('evil').replaceAll('-', '')
      const poisons: Record<string, string>[] = [
        { 'x-forwarded-host': `${mark}.example` },
        { 'x-forwarded-proto': mark },
        { 'x-forwarded-for': mark },
        { forwarded: `host=${mark}.example;proto=https` },
        { 'x-original-url': `/${mark}` },
        { 'x-rewrite-url': `/${mark}` },
        { 'x-http-method-override': 'DELETE' },
        { 'x-request-id': mark },
        { 'accept-language': mark },
        { accept: mark },
        { 'accept-encoding': mark },
        { cookie: `other=${mark}; Session=${mark}` },
        { cookie: `not-session=${mark}` },
        { 'user-agent': mark },
        { referer: `https://${mark}.example/` },
        { origin: `https://${mark}.example` },
        { 'x-rung-page': `${'a'.repeat(32)}:1` },
        { 'surrogate-key': mark },
        { vary: '*' },
        { 'cache-control': 'no-store' },
        { range: 'bytes=0-10' },
        { 'if-none-match': '*' },
      ]
      for (const poison of poisons) {
        const path = await author.publish()
        const name = JSON.stringify(poison)
        await visitor(target).get(path, poison)
        const clean = await visitor(target).get(path)
        assert.equal(clean.status, 200, name)
        assert.match(clean.text, /<\/html>\s*$/, name)
        assert.ok(!clean.text.includes(mark), name)
        for (const [header, value] of clean.headers) assert.ok(!value.includes(mark), `${name}: ${header}`)
      }
    })

    it('and what varies by a header is kept apart', async () => {
      const path = /href="(\/-\/assets\/pages\/style[^"]+)"/.exec((await visitor(target).get('/')).text)![1]!
      const lengths = new Map<string, Set<string | null>>()
      for (let round = 0; round < 3; round += 1) {
        for (const encoding of ['br', 'gzip', 'identity', 'br;q=0, gzip']) {
          const { headers, text } = await visitor(target).get(path, { 'accept-encoding': encoding })
          assert.match(text, /:root/)
          assert.match(headers.get('vary')!, /accept-encoding/i)
          lengths.set(encoding, (lengths.get(encoding) ?? new Set()).add(headers.get('content-encoding')))
        }
      }
      const encodings = [...lengths].map(([asked, got]) => [asked, [...got]])
      assert.deepEqual(encodings, [
        ['br', ['br']],
        ['gzip', ['gzip']],
        ['identity', [null]],
        ['br;q=0, gzip', ['gzip']],
      ])
    })
  })
}
