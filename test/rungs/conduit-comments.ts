import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  articlePath,
  type Conduit,
  expectBody,
  expectErrors,
  expectErrorsOf,
  expectOneOf,
  unique,
} from './conduit-client.ts'
import { expectComment } from './conduit-shapes.ts'

const noArticle = { article: ['not found'] }
const noComment = { comment: ['not found'] }

export function commentTests(api: Conduit): void {
  const commentsOf = (slug: string) => `${articlePath(slug)}/comments`
  const list = async (slug: string, token?: string) => expectBody(await api.get(commentsOf(slug), token)).comments
  const ids = async (slug: string) => (await list(slug)).map(({ id }) => id).sort((a, b) => a - b)

  describe('comments', () => {
    it('are answered with 201 and listed for everybody', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      assert.deepEqual(await list(slug), [])
      const answer = await api.post(commentsOf(slug), { comment: { body: 'First' } }, reader.token)
      const { comment } = expectBody(answer, 201)
      expectComment(comment)
      const profile = { username: reader.username, bio: null, image: null, following: false }
      assert.deepEqual([comment.body, comment.author], ['First', profile])
      for (const token of [undefined, author.token, reader.token]) {
        const listed = await list(slug, token)
        for (const one of listed) expectComment(one)
        assert.deepEqual(listed, [comment])
      }
      const second = await api.comment(author, slug, 'Second')
      assert.deepEqual(
        await ids(slug),
        [comment.id, second.id].sort((a, b) => a - b),
      )
    })

    it('stay with their article', async () => {
      const author = await api.person()
      const [one, two] = [await api.article(author), await api.article(author)]
      const comment = await api.comment(author, one.slug)
      assert.deepEqual(await list(two.slug), [])
      expectErrors(await api.remove(`${commentsOf(two.slug)}/${comment.id}`, author.token), 404, noComment)
      assert.deepEqual(await ids(one.slug), [comment.id])
    })

    it('are deleted by who wrote them', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      const [mine, kept] = [await api.comment(reader, slug), await api.comment(reader, slug)]
      const path = `${commentsOf(slug)}/${mine.id}`
      expectErrors(await api.remove(path), 401, { token: ['is missing'] })
      expectErrors(await api.remove(path, (await api.person()).token), 403, { comment: ['forbidden'] })
      expectErrors(await api.remove(path, author.token), 403, { comment: ['forbidden'] })
      assert.deepEqual(
        await ids(slug),
        [mine.id, kept.id].sort((a, b) => a - b),
      )
      expectBody(await api.remove(path, reader.token), 204)
      assert.deepEqual(await ids(slug), [kept.id])
      expectErrors(await api.remove(path, reader.token), 404, noComment)
    })

    it('are deleted once, however many ask at the same time', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const path = `${commentsOf(slug)}/${(await api.comment(author, slug)).id}`
      const answers = await Promise.all(Array.from({ length: 5 }, () => api.remove(path, author.token)))
      assert.deepEqual(answers.map((answer) => answer.status).sort(), [204, 404, 404, 404, 404])
    })

    it('are all kept when many come at the same time', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const comments = await Promise.all(Array.from({ length: 12 }, (_, n) => api.comment(author, slug, `No. ${n}`)))
      assert.equal(new Set(comments.map(({ id }) => id)).size, comments.length)
      assert.deepEqual(
        await ids(slug),
        comments.map(({ id }) => id).sort((a, b) => a - b),
      )
    })

    it('of no article are not found', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const { id } = await api.comment(author, slug)
      const path = commentsOf(unique('no-such-article'))
      expectErrors(await api.get(path), 404, noArticle)
      expectErrors(await api.get(path, author.token), 404, noArticle)
      expectErrors(await api.post(path, { comment: { body: 'Hello?' } }, author.token), 404, noArticle)
      expectErrors(await api.remove(`${path}/${id}`, author.token), 404, noArticle)
    })

    it('under an unused number are not found', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      expectErrors(await api.remove(`${commentsOf(slug)}/2147483647`, author.token), 404, noComment)
    })

    it('under what cannot be their number are not found or refused', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const { id } = await api.comment(author, slug)
      const wrong = [
        '0',
        '-1',
        '2147483648',
        '9223372036854775808',
        '99999999999999999999',
        '1.5',
        'abc',
        '1e400',
        'NaN',
      ]
      for (const value of [...wrong, `${id}abc`, `${id}.5`, `${id};`, `-${id}`, '%00', 'null', '%F0%9F%99%82']) {
        const answer = await api.remove(`${commentsOf(slug)}/${value}`, author.token)
        if (expectOneOf(answer, [400, 404, 422]) === 404) expectErrors(answer, 404, noComment)
      }
      assert.deepEqual(await ids(slug), [id])
    })

    for (const [name, value] of [
      ['empty', ''],
      ['null', null],
      ['absent', undefined],
      ['spaces', ' \n '],
    ] as const) {
      it(`must not be blank (${name})`, async () => {
        const author = await api.person()
        const { slug } = await api.article(author)
        const answer = await api.post(commentsOf(slug), { comment: { body: value } }, author.token)
        expectErrors(answer, 422, { body: ["can't be blank"] })
        assert.deepEqual(await list(slug), [])
      })
    }

    it('must be texts', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      for (const body of [1, true, {}, ['text']]) {
        expectErrorsOf(await api.post(commentsOf(slug), { comment: { body } }, author.token), 422, 'body')
      }
      for (const body of [{}, { comment: null }, { comment: 'text' }, { body: 'text' }]) {
        expectBody(await api.post(commentsOf(slug), body, author.token), 422)
      }
      assert.deepEqual(await list(slug), [])
    })
  })
}
