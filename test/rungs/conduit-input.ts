import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, it } from 'node:test'
import {
  articlePath,
  type Conduit,
  expectBody,
  expectErrorsOf,
  expectOneOf,
  expectRefused,
  profilePath,
  unique,
} from './conduit-client.ts'
import { expectArticle } from './conduit-shapes.ts'

const texts: Record<string, string> = {
  html: '<script>alert("x")</script> &amp; <b>bold</b> &lt;',
  sql: `'; drop table users; -- " or 1=1 /* */ $1 %s :name ?`,
  quotes: `'single' "double" \`back\` „low“ «angle»`,
  backslashes: '\\ \\\\ \\n \\u0041 \\x41 C:\\new\\table',
  templates: '{{a}} #{b} <%= c %> %(d)s {e} $f $1',
  unicode: 'Ünïcödé — 日本語 العربية עברית ไทย',
  emoji: '🙂👩‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽',
  composed: '\u00E9 e\u0301 \uFB01 \u00C5 \u212B',
  invisible: 'a\u200Bb\u200Dc\u202Ed\u00A0e\uFEFFf\u00ADg',
  controls: 'a\u0001b\u007Fc\u0085d\u2028e\u2029f',
  lines: 'one\ntwo\r\nthree\tfour\u000Bfive',
  json: '{"a": [null, true, "\\u0000"]}',
  path: '../../etc/passwd%00.png',
  prototype: '__proto__ constructor toString',
  astral: '𝒳𐍈\u{10FFFF}\uFFFD',
  number: '007',
  nothing: 'null',
}

/** Texts of all kinds, bodies of wrong shapes, and paths that are none. */
export function inputTests(api: Conduit): void {
  describe('text', () => {
    for (const [name, text] of Object.entries(texts)) {
      it(`of ${name} comes back as it went, from every field`, async () => {
        const person = await api.person()
        const update = { bio: text, image: `https://example.com/${text}` }
        assert.partialDeepStrictEqual(expectBody(await api.put('/user', { user: update }, person.token)).user, update)
        assert.partialDeepStrictEqual(expectBody(await api.get(profilePath(person.username))).profile, update)
        const [title, tag] = [`${text}${unique(' ')}`, `${text}${unique(' ')}`]
        const fields = { title, description: text, body: text, tagList: [tag, unique('other')] }
        const created = await api.article(person, fields)
        assert.partialDeepStrictEqual(created, fields)
        const article = expectBody(await api.get(articlePath(created.slug))).article
        expectArticle(article)
        assert.deepEqual(article, { ...created, author: article.author })
        const list = await api.list({ tag })
        assert.deepEqual([list.articlesCount, list.articles[0]?.title], [1, title])
        assert.ok(expectBody(await api.get('/tags')).tags.includes(tag))
        const comment = await api.comment(person, created.slug, text)
        const { comments } = expectBody(await api.get(`${articlePath(created.slug)}/comments`))
        assert.deepEqual([comment.body, comments[0]?.body], [text, text])
        const again = { title: `${title}!`, description: `${text}!`, body: `${text}!` }
        const changed = expectBody(await api.put(articlePath(created.slug), { article: again }, person.token)).article
        assert.partialDeepStrictEqual(changed, again)
      })
    }

    it('of a password is a password', async () => {
      for (const password of ['<b>"\'\\%00;--', '       8', '🙂🙂🙂🙂🙂🙂🙂🙂', 'tab\tnew\nline', 'pass＃ﬁword']) {
        const { email } = await api.person({ password })
        expectBody(await api.post('/users/login', { user: { email, password } }))
        expectBody(await api.post('/users/login', { user: { email, password: `${password}x` } }), 401)
      }
    })

    it('keeps the space around a body', async () => {
      const person = await api.person()
      const body = '  indented\n\n    more\n\n'
      const { slug } = await api.article(person, { body })
      assert.equal(expectBody(await api.get(articlePath(slug))).article.body, body)
    })

    it('with a character zero is refused in every field', async () => {
      const person = await api.person()
      const { slug } = await api.article(person)
      const zero = 'a\u0000b'
      const user = { username: unique('zero'), email: `${unique('zero')}@example.com`, password: 'correct horse' }
      const article = { title: 'T', description: 'D', body: 'B', tagList: ['t'] }
      for (const field of ['username', 'email']) {
        expectRefused(await api.post('/users', { user: { ...user, [field]: `${zero}@example.com` } }))
      }
      expectRefused(await api.post('/users/login', { user: { email: `${zero}@example.com`, password: zero } }))
      for (const field of ['username', 'email', 'bio', 'image']) {
        expectRefused(await api.put('/user', { user: { [field]: `${zero}@example.com` } }, person.token))
      }
      for (const change of [{ title: zero }, { description: zero }, { body: zero }, { tagList: [zero] }]) {
        expectRefused(await api.post('/articles', { article: { ...article, ...change } }, person.token))
        expectRefused(await api.put(articlePath(slug), { article: change }, person.token))
      }
      expectRefused(await api.post(`${articlePath(slug)}/comments`, { comment: { body: zero } }, person.token))
      expectOneOf(await api.post('/users', { user: { ...user, password: `long enough ${zero}` } }), [201, 400, 422])
    })

    it('with half a character is kept, replaced or refused', async () => {
      const { token } = await api.person()
      const raw = `{"article":{"title":"${unique('half')} \\ud83d","description":"\\udc00","body":"x\\ud800y"}}`
      const answer = await api.call('POST', '/articles', { token, raw })
      if (expectOneOf(answer, [201, 400, 422]) !== 201) return
      expectBody(await api.get(articlePath(answer.body.article.slug)))
    })
  })

  describe('a body', () => {
    const wrong = [1, 0, true, false, {}, [], ['text'], { text: 'text' }]

    it('with a wrong type in a user is refused', async () => {
      const { token } = await api.person()
      const user = { username: unique('wrong'), email: `${unique('wrong')}@example.com`, password: 'correct horse' }
      for (const value of wrong) {
        for (const field of ['username', 'email', 'password']) {
          expectErrorsOf(await api.post('/users', { user: { ...user, [field]: value } }), 422, field)
        }
        for (const field of ['email', 'password']) {
          expectErrorsOf(await api.post('/users/login', { user: { ...user, [field]: value } }), 422, field)
        }
        for (const field of ['username', 'email', 'password', 'bio', 'image']) {
          expectErrorsOf(await api.put('/user', { user: { [field]: value } }, token), 422, field)
        }
      }
    })

    it('with a wrong type in an article is refused', async () => {
      const { token } = await api.person()
      const { slug } = await api.article({ token })
      for (const value of wrong) {
        for (const field of ['title', 'description', 'body']) {
          const article = { title: unique('T'), description: 'D', body: 'B', [field]: value }
          expectErrorsOf(await api.post('/articles', { article }, token), 422, field)
          expectErrorsOf(await api.put(articlePath(slug), { article: { [field]: value } }, token), 422, field)
        }
      }
    })

    const writes = (slug: string): [string, string][] => [
      ['POST', '/users'],
      ['POST', '/users/login'],
      ['PUT', '/user'],
      ['POST', '/articles'],
      ['PUT', articlePath(slug)],
      ['POST', `${articlePath(slug)}/comments`],
    ]
    for (const [index, [method, path]] of writes('slug').entries()) {
      it(`of ${method} ${path} that is no JSON is refused`, async () => {
        const { token } = await api.person()
        const { slug } = await api.article({ token })
        const [, path] = writes(slug)[index]!
        const nested = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
        const broken = [
          '{',
          '{"user":',
          '{"user":{}}}',
          "{'user': 1}",
          'text',
          '{"a":1,}',
          '\u0000',
          '[NaN]',
          '{"a":"\t"}',
        ]
        for (const raw of [...broken, nested]) expectRefused(await api.call(method, path, { token, raw }))
        for (const raw of ['', 'null', '1', '"text"', '[]', 'true']) {
          expectOneOf(await api.call(method, path, { token, raw }), [400, 422])
        }
        const headers = { 'content-type': 'text/plain' }
        expectOneOf(await api.call(method, path, { token, raw: 'text', headers }), [400, 415, 422])
        expectOneOf(await api.call(method, path, { token }), [400, 415, 422])
      })

      it(`of ${method} ${path} may try to reach the prototype, in vain`, async () => {
        const { token } = await api.person()
        const { slug } = await api.article({ token })
        const [, path] = writes(slug)[index]!
        const evil = '"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}'
        for (const raw of [`{${evil}}`, `{"user":{${evil}},"article":{${evil}},"comment":{${evil}}}`]) {
          expectOneOf(await api.call(method, path, { token, raw }), [200, 400, 422])
        }
        expectBody(await api.get('/user', token))
      })
    }

    it('with more than was asked for is taken without it, or refused', async () => {
      const person = await api.person()
      const user = {
        username: unique('more'),
        email: `${unique('more')}@example.com`,
        password: 'correct horse',
        more: 1,
      }
      expectOneOf(await api.post('/users', { user, more: {} }), [201, 422])
      expectOneOf(await api.put('/user', { user: { bio: 'b', more: [] }, more: 1 }, person.token), [200, 422])
      const article = { title: unique('more'), description: 'D', body: 'B', more: null }
      expectOneOf(await api.post('/articles', { article, more: 'x' }, person.token), [201, 422])
      const { slug } = await api.article(person)
      const comment = { comment: { body: 'B', id: 1, more: true }, more: 1 }
      expectOneOf(await api.post(`${articlePath(slug)}/comments`, comment, person.token), [201, 422])
    })

    it('of 2 MiB is too large', async () => {
      const { token } = await api.person()
      const article = { title: unique('large'), description: 'D', body: 'x'.repeat(2 * 1024 * 1024) }
      assert.equal(await statusOfLargeBody(api, token, JSON.stringify({ article })), 413)
      expectBody(await api.get('/user', token))
    })
  })

  describe('a path', () => {
    const paths = [
      ...['%00', 'a%00b', '%', '%zz', '%E0%A4%A', '%ff', '%c0%ae', 'a%', '%u0041'],
      ...['%2e%2e%2f%2e%2e%2fetc%2fpasswd', '%252e', '__proto__', 'constructor', '%27%20or%201%3D1--', '%0d%0ax:y'],
      ...['x'.repeat(2000), '%F0%9F%99%82'.repeat(100), '%20', '*', ';', '%3Cscript%3E'],
    ]
    for (const path of paths) {
      it(`${path.slice(0, 40)} leads nowhere`, async () => {
        const { token } = await api.person()
        for (const route of [`/articles/${path}`, `/profiles/${path}`, `/articles/${path}/comments`]) {
          expectOneOf(await api.get(route, token), [400, 404, 414, 422])
        }
        for (const route of [`/articles/${path}/favorite`, `/profiles/${path}/follow`]) {
          expectOneOf(await api.post(route, undefined, token), [400, 404, 414, 422])
          expectOneOf(await api.remove(route, token), [400, 404, 414, 422])
        }
        expectOneOf(await api.remove(`/articles/${path}/comments/1`, token), [400, 404, 414, 422])
      })
    }
  })
}

/**
 * Sends a body piece by piece until the app answers: it may answer, and hang up, long before it has the whole, which
 * `fetch` may report as a broken connection.
 */
function statusOfLargeBody(api: Conduit, token: string, body: string): Promise<number | undefined> {
  const headers = { authorization: `Token ${token}`, 'content-type': 'application/json', expect: '100-continue' }
  return new Promise((resolve, reject) => {
    const sent = request(`${api.target().baseUrl}/api/articles`, {
      method: 'POST',
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
    })
    const pieces = body.match(/.{1,65536}/gs)?.values()
    const next = () => {
      const piece = pieces?.next().value
      if (piece !== undefined && !sent.destroyed) sent.write(piece, () => setImmediate(next))
    }
    sent.on('continue', next)
    sent.on('response', (response) => {
      resolve(response.statusCode)
      sent.destroy()
    })
    sent.on('error', reject)
    sent.flushHeaders()
  })
}
