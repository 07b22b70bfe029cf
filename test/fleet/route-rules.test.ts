import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type GroupRoute, routeRules } from '../../src/fleet/route-rules.ts'

const route = (text: string, group?: string): GroupRoute => {
  const [method, url] = text.split(' ') as [string, string]
  return { method, url, group }
}

/** As the balancer does it. */
function groupOf(routes: readonly GroupRoute[], request: string): string | undefined {
  const key = request.replace(' ', ':')
  return routeRules(routes).find(({ pattern }) => new RegExp(pattern).test(key))?.group
}

describe('the group of a request', () => {
  const routes = [
    route('GET /articles/:slug'),
    route('GET /articles/feed'),
    route('POST /articles'),
    route('GET /articles/:slug/comments', 'talk'),
    route('GET /articles/:slug/comments/:id', 'talk'),
    route('DELETE /articles/:slug/comments/:id', 'talk'),
    route('GET /articles/search', 'search'),
    route('GET /files/*', 'media'),
    route('GET /files/list'),
    route('GET /people/:id', 'people'),
    route('GET /people/:id/picture.:kind', 'media'),
    route('PUT /people/:id'),
    route('GET /days/:from-:to', 'people'),
    route('GET /maybe/:id?', 'people'),
    route('GET /*'),
  ]
  for (const [request, group] of [
    ['GET /articles/one', undefined],
    ['GET /articles/feed', undefined],
    ['GET /articles/search', 'search'],
    ['GET /articles/searching', undefined],
    ['GET /articles/one/comments', 'talk'],
    ['GET /articles/one/comments/5', 'talk'],
    ['DELETE /articles/one/comments/5', 'talk'],
    ['PUT /articles/one/comments/5', 'talk'],
    ['POST /articles', undefined],
    ['GET /files/a/b.png', 'media'],
    ['GET /files/list', undefined],
    ['GET /people/7', 'people'],
    ['PUT /people/7', undefined],
    ['GET /people/7/picture.png', 'media'],
    ['GET /people/7/pictureXpng', undefined],
    ['GET /days/1-2', 'people'],
    ['GET /maybe', 'people'],
    ['GET /maybe/1', 'people'],
    ['GET /', undefined],
    ['GET /people', undefined],
  ] as const) {
    it(`${request}: ${group ?? 'none'}`, () => {
      assert.equal(groupOf(routes, request), group)
      assert.equal(groupOf(routes.toReversed(), request), group, 'whatever the order in which they were told')
    })
  }

  it('has no rules where nobody has a group', () => {
    assert.deepEqual(routeRules([route('GET /articles/:slug'), route('GET /*')]), [])
  })

  it('is that of the group while other processes still have the module, or have it again', () => {
    const both = [route('GET /a'), route('GET /a', 'x'), route('POST /a')]
    for (const told of [both, both.toReversed()]) {
      assert.deepEqual(routeRules(told).find(({ pattern }) => pattern === '^GET:/a$')?.group, 'x')
      assert.equal(groupOf(told, 'POST /a'), undefined)
    }
  })

  it('has one rule for a route that several processes tell', () => {
    const [one, ...others] = routeRules([route('GET /a', 'x'), route('GET /a', 'x')])
    assert.deepEqual(
      [one, others.map(({ pattern }) => pattern)],
      [{ pattern: '^GET:/a$', group: 'x' }, ['^[A-Z]+:/a$']],
    )
  })
})
