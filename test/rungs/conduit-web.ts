import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { articlePath, type Conduit, expectBody, expectOneOf, profilePath } from './conduit-client.ts'

const origin = 'https://front-end.example'

const words = (header: string | null) => (header ?? '').split(',').map((word) => word.trim().toLowerCase())

/** What browsers and balancers see: other origins, request ids, routes that do not exist. */
export function webTests(api: Conduit): void {
  const preflight = (path: string, method: string) =>
    fetch(`${api.target().baseUrl}/api${path}`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': method,
        'access-control-request-headers': 'authorization,content-type',
      },
    })

  describe('another origin', () => {
    const routes = [
      ...[
        ['POST', '/users/login'],
        ['POST', '/users'],
        ['GET', '/user'],
        ['PUT', '/user'],
        ['GET', '/profiles/a'],
      ],
      ...[
        ['POST', '/profiles/a/follow'],
        ['DELETE', '/profiles/a/follow'],
        ['GET', '/articles/feed'],
      ],
      ...[
        ['GET', '/articles'],
        ['POST', '/articles'],
        ['GET', '/articles/a'],
        ['PUT', '/articles/a'],
      ],
      ...[
        ['DELETE', '/articles/a'],
        ['GET', '/articles/a/comments'],
        ['POST', '/articles/a/comments'],
      ],
      ...[
        ['DELETE', '/articles/a/comments/1'],
        ['POST', '/articles/a/favorite'],
        ['DELETE', '/articles/a/favorite'],
      ],
      ['GET', '/tags'],
    ] as [string, string][]
    for (const [method, path] of routes) {
      it(`may ${method} ${path}`, async () => {
        const response = await preflight(path, method)
        await response.arrayBuffer()
        assert.ok(response.ok, `answered ${response.status}`)
        assert.ok(['*', origin].includes(response.headers.get('access-control-allow-origin') ?? ''))
        const methods = words(response.headers.get('access-control-allow-methods'))
        assert.ok(methods.includes(method.toLowerCase()) || methods.includes('*'), `methods ${methods}`)
        // A star does not stand for Authorization.
        const headers = words(response.headers.get('access-control-allow-headers'))
        assert.ok(headers.includes('authorization'), `headers ${headers}`)
        assert.ok(headers.includes('content-type') || headers.includes('*'), `headers ${headers}`)
      })
    }

    it('may read every answer, refusals too', async () => {
      const { token } = await api.person()
      const headers = { origin }
      const answers = [
        await api.call('GET', '/tags', { headers }),
        await api.call('GET', '/user', { headers, token }),
        await api.call('GET', '/user', { headers }),
        await api.call('GET', '/articles/no-such-article', { headers }),
        await api.call('POST', '/users', { headers, body: { user: {} } }),
        await api.call('POST', '/users', { headers, raw: '{' }),
      ]
      for (const { headers, request } of answers) {
        assert.ok(['*', origin].includes(headers.get('access-control-allow-origin') ?? ''), request)
      }
    })
  })

  describe('every answer', () => {
    it('has a request id of its own', async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => api.get('/tags')))
      assert.equal(new Set(answers.map(({ headers }) => headers.get('x-request-id'))).size, answers.length)
    })

    it('has a sane request id, whatever the client calls its request', async () => {
      for (const id of ['x'.repeat(4000), 'a b;c', '<script>', '\u00ff']) {
        const answer = await api.call('GET', '/tags', { headers: { 'x-request-id': id } })
        assert.match(expectBody(answer) && (answer.headers.get('x-request-id') ?? ''), /^[\w.:/+=-]{1,200}$/)
      }
    })

    it('is refused with errors where there is no route', async () => {
      const { token } = await api.person()
      const nowhere = ['/nowhere', '/', '', '/users/login/more', '/articles/a/b/c/d', '/user/1', '/tags/x', '/profiles']
      for (const path of nowhere) {
        expectBody(await api.get(path), 404)
        expectBody(await api.get(path, token), 404)
        expectBody(await api.post(path, { any: 'thing' }, token), 404)
      }
    })

    it('is refused with errors where the method is none of the route', async () => {
      const { token } = await api.person()
      for (const [method, path] of [
        ['PATCH', '/user'],
        ['DELETE', '/user'],
        ['POST', '/tags'],
        ['PUT', '/articles'],
      ] as const) {
        expectOneOf(await api.call(method, path, { token, body: {} }), [404, 405])
      }
    })

    it('comes to requests that name JSON and have no body', async () => {
      const [fan, star] = [await api.person(), await api.person()]
      const { slug } = await api.article(star)
      const { id } = await api.comment(star, slug)
      const sent = (token: string) => ({ token, headers: { 'content-type': 'application/json' } })
      const calls = [
        ['GET', '/user', fan, 200],
        ['GET', '/articles', fan, 200],
        ['POST', `${profilePath(star.username)}/follow`, fan, 200],
        ['DELETE', `${profilePath(star.username)}/follow`, fan, 200],
        ['POST', `${articlePath(slug)}/favorite`, fan, 200],
        ['DELETE', `${articlePath(slug)}/favorite`, fan, 200],
        ['DELETE', `${articlePath(slug)}/comments/${id}`, star, 204],
        ['DELETE', articlePath(slug), star, 204],
      ] as const
      for (const [method, path, who, status] of calls) expectBody(await api.call(method, path, sent(who.token)), status)
    })

    it('comes to requests with a body that nobody asked for', async () => {
      const [fan, star] = [await api.person(), await api.person()]
      const { slug } = await api.article(star)
      expectBody(await api.post(`${profilePath(star.username)}/follow`, {}, fan.token))
      expectBody(await api.post(`${articlePath(slug)}/favorite`, {}, fan.token))
      expectBody(await api.call('DELETE', articlePath(slug), { token: star.token, body: {} }), 204)
    })

    it('to HEAD is without a body', async () => {
      const response = await fetch(`${api.target().baseUrl}/api/tags`, { method: 'HEAD' })
      assert.ok([200, 404, 405].includes(response.status), `answered ${response.status}`)
      assert.equal(await response.text(), '')
    })
  })
}
