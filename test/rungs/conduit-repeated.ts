import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import {
  type Answer,
  articlePath,
  type Conduit,
  expectBody,
  expectErrorsOf,
  expectOneOf,
  type Person,
  unique,
} from './conduit-client.ts'

/** What comes twice because nobody heard of the first time: an Idempotency-Key makes it one. */
export function repeatedTests(api: Conduit): void {
  const send = (path: string, body: unknown, { token }: Person, key: string) =>
    api.call('POST', path, { token, body, headers: { 'idempotency-key': key } })
  const newArticle = () => ({
    article: { title: unique('Title'), description: 'D', body: 'B', tagList: [unique('tag')] },
  })
  const replayed = ({ headers }: Answer) => headers.get('idempotency-replayed')

  describe('a request with a key', () => {
    it('makes one article, and is answered the same again', async () => {
      const author = await api.person()
      const [article, key] = [newArticle(), `"${randomUUID()}"`]
      const first = await send('/articles', article, author, key)
      const { slug } = expectBody(first, 201).article
      expectBody(await api.put(articlePath(slug), { article: { body: 'changed meanwhile' } }, author.token))
      const second = await send('/articles', article, author, key)
      assert.deepEqual([second.status, second.text], [201, first.text])
      assert.deepEqual([replayed(first), replayed(second)], [null, 'true'])
      assert.equal((await api.list({ author: author.username })).articlesCount, 1)
      expectErrorsOf(await send('/articles', newArticle(), author, key), 422, 'Idempotency-Key')
      assert.equal((await api.list({ author: author.username })).articlesCount, 1)
    })

    it('makes one article of many at the same time', async () => {
      const author = await api.person()
      const [article, key] = [newArticle(), randomUUID()]
      const answers = await Promise.all(Array.from({ length: 6 }, () => send('/articles', article, author, key)))
      const made = answers.filter((answer) => expectOneOf(answer, [201, 409]) === 201)
      assert.equal(new Set(made.map(({ text }) => text)).size, 1)
      assert.equal((await api.list({ author: author.username })).articlesCount, 1)
      const again = await send('/articles', article, author, key)
      assert.deepEqual([again.status, again.text], [201, made[0]!.text])
    })

    it('makes one comment', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const [one, two] = [await api.article(author), await api.article(author)]
      const path = ({ slug }: { slug: string }) => `${articlePath(slug)}/comments`
      const [comment, key] = [{ comment: { body: 'Well said' } }, randomUUID()]
      const first = await send(path(one), comment, reader, key)
      expectBody(first, 201)
      const second = await send(path(one), comment, reader, key)
      assert.deepEqual([second.status, second.text, replayed(second)], [201, first.text, 'true'])
      expectErrorsOf(await send(path(one), { comment: { body: 'Or not' } }, reader, key), 422, 'Idempotency-Key')
      expectErrorsOf(await send(path(two), comment, reader, key), 422, 'Idempotency-Key')
      assert.equal(expectBody(await api.get(path(one))).comments.length, 1)
      assert.equal(expectBody(await api.get(path(two))).comments.length, 0)
    })

    it('is the sender’s own', async () => {
      const [one, two] = [await api.person(), await api.person()]
      const [article, key] = [newArticle(), randomUUID()]
      const first = expectBody(await send('/articles', article, one, key), 201).article
      const second = expectBody(await send('/articles', article, two, key), 201).article
      assert.notEqual(first.slug, second.slug)
      assert.equal(second.author.username, two.username)
    })

    it('may be tried again once it is right', async () => {
      const author = await api.person()
      const [article, key] = [newArticle(), randomUUID()]
      expectErrorsOf(await send('/articles', { article: { ...article.article, title: '' } }, author, key), 422, 'title')
      expectBody(await send('/articles', article, author, key), 201)
      expectErrorsOf(await send('/articles', newArticle(), author, 'ü'), 400, 'Idempotency-Key')
      expectErrorsOf(await send('/articles', newArticle(), author, 'x'.repeat(300)), 400, 'Idempotency-Key')
    })
  })

  it('the document shows the header where it is taken', async () => {
    const response = await fetch(`${api.target().baseUrl}/openapi.json`)
    const { paths } = (await response.json()) as {
      paths: Record<string, Record<string, { parameters?: { name: string; in: string; required: boolean }[] }>>
    }
    const taking = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { parameters = [] }]) =>
        parameters.filter((one) => one.in === 'header').map((one) => `${method} ${path} ${one.name} ${one.required}`),
      ),
    )
    assert.deepEqual(taking.sort(), [
      'post /api/articles Idempotency-Key false',
      'post /api/articles/{slug}/comments Idempotency-Key false',
    ])
  })
}
