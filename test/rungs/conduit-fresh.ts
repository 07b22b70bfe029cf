import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type Answer,
  articlePath,
  type Conduit,
  expectBody,
  expectOneOf,
  profilePath,
  unique,
} from './conduit-client.ts'

const rounds = 3

/** What is read, and what must be seen there after the write. */
type Seen = [path: string, check: (answer: Answer) => void]

/**
 * A write is seen by the very next read, of every endpoint and whoever reads. Each endpoint is read before the write
 * too, so that whatever keeps an older answer has one to keep.
 */
export function freshTests(api: Conduit): void {
  let turn = 0

  async function expectSeen(
    viewers: (string | undefined)[],
    write: () => Promise<Answer>,
    seen: Seen[],
  ): Promise<void> {
    const reads = viewers.flatMap((token) => seen.map(([path, check]) => ({ token, path, check })))
    for (const { path, token } of reads) await api.get(path, token)
    expectOneOf(await write(), [200, 201, 204])
    // Each endpoint is the first to be read after some write: the order turns with every call.
    const from = turn++ % reads.length
    for (const { path, token, check } of [...reads.slice(from), ...reads.slice(0, from)])
      check(await api.get(path, token))
  }

  async function scene() {
    const [author, reader] = [await api.person(), await api.person()]
    const tag = unique('tag')
    const article = await api.article(author, { tagList: [tag] })
    return { author, reader, tag, article, viewers: [author.token, reader.token, undefined] }
  }

  const listed = (check: (answer: Answer) => void) => (answer: Answer) => {
    assert.ok(expectBody(answer).articles.length > 0, `${answer.request}: empty`)
    check(answer)
  }

  describe('the next read', () => {
    it('sees a changed user', async () => {
      const { author, article, viewers } = await scene()
      await api.comment(author, article.slug)
      for (let round = 0; round < rounds; round += 1) {
        const bio = `Bio ${round}`
        await expectSeen(viewers, () => api.put('/user', { user: { bio } }, author.token), [
          [profilePath(author.username), ({ body }) => assert.equal(body.profile.bio, bio)],
          [articlePath(article.slug), ({ body }) => assert.equal(body.article.author.bio, bio)],
          [
            `/articles?author=${author.username}`,
            listed(({ body }) => assert.equal(body.articles[0]?.author.bio, bio)),
          ],
          [`${articlePath(article.slug)}/comments`, ({ body }) => assert.equal(body.comments[0]?.author.bio, bio)],
        ])
        assert.equal(expectBody(await api.get('/user', author.token)).user.bio, bio)
      }
    })

    it('sees a new article', async () => {
      const { author, reader, tag, viewers } = await scene()
      await api.follow(reader, author.username)
      const seesNew = async (viewers: (string | undefined)[], paths: string[], tagList: string[], place?: number) => {
        const title = unique('Title')
        const article = { title, description: 'D', body: 'B', tagList }
        const check = (answer: Answer) => {
          const at = expectBody(answer).articles.findIndex((item) => item.title === title)
          assert.ok(place === undefined ? at >= 0 : at === place, `${answer.request}: at ${at}`)
        }
        const checkTags = ({ body }: Answer) => assert.ok(tagList.every((name) => body.tags.includes(name)))
        const seen = paths.map((path): Seen => [path, path === '/tags' ? checkTags : check])
        await expectSeen(viewers, () => api.post('/articles', { article }, author.token), seen)
      }
      const byAuthor = `/articles?author=${author.username}`
      for (let round = 0; round < rounds; round += 1) {
        const newTag = unique('new')
        const lists = [byAuthor, `${byAuthor}&limit=1`, `/articles?tag=${tag}`, `/articles?tag=${newTag}`, '/tags']
        await seesNew(viewers, lists, [tag, newTag], 0)
        await seesNew([reader.token], ['/articles/feed'], [], 0)
        // By itself, lest others push it off the page while the rest is read.
        await seesNew(viewers, ['/articles?limit=100'], [])
      }
    })

    it('sees a changed article', async () => {
      const { author, reader, tag, article, viewers } = await scene()
      await api.favorite(reader, article.slug)
      for (let round = 0; round < rounds; round += 1) {
        const description = unique('New')
        const first = listed(({ body }) => assert.equal(body.articles[0]?.description, description))
        await expectSeen(
          viewers,
          () => api.put(articlePath(article.slug), { article: { description } }, author.token),
          [
            [articlePath(article.slug), ({ body }) => assert.equal(body.article.description, description)],
            [`/articles?author=${author.username}`, first],
            [`/articles?tag=${tag}`, first],
            [`/articles?favorited=${reader.username}`, first],
          ],
        )
      }
    })

    it('sees a favorite come and go', async () => {
      const { author, reader, article, viewers } = await scene()
      await api.favorite(author, article.slug)
      for (let round = 0; round < rounds; round += 1) {
        for (const [change, count] of [
          [api.favorite, 2],
          [api.unfavorite, 1],
        ] as const) {
          await expectSeen(viewers, () => change(reader, article.slug), [
            [articlePath(article.slug), ({ body }) => assert.equal(body.article.favoritesCount, count)],
            [
              `/articles?author=${author.username}`,
              listed(({ body }) => assert.equal(body.articles[0]?.favoritesCount, count)),
            ],
            [`/articles?favorited=${reader.username}`, ({ body }) => assert.equal(body.articlesCount, count - 1)],
          ])
          const { favorited } = expectBody(await api.get(articlePath(article.slug), reader.token)).article
          assert.equal(favorited, count === 2)
        }
      }
    })

    it('sees a follow come and go', async () => {
      const { author, reader, article } = await scene()
      await api.comment(author, article.slug)
      for (let round = 0; round < rounds; round += 1) {
        for (const [change, following] of [
          [api.follow, true],
          [api.unfollow, false],
        ] as const) {
          await expectSeen([reader.token], () => change(reader, author.username), [
            [profilePath(author.username), ({ body }) => assert.equal(body.profile.following, following)],
            [articlePath(article.slug), ({ body }) => assert.equal(body.article.author.following, following)],
            [
              `/articles?author=${author.username}`,
              listed(({ body }) => assert.equal(body.articles[0]?.author.following, following)),
            ],
            [
              `${articlePath(article.slug)}/comments`,
              ({ body }) => assert.equal(body.comments[0]?.author.following, following),
            ],
            ['/articles/feed', ({ body }) => assert.equal(body.articlesCount, following ? 1 : 0)],
          ])
        }
      }
    })

    it('sees a comment come and go', async () => {
      const { reader, article, viewers } = await scene()
      const path = `${articlePath(article.slug)}/comments`
      for (let round = 0; round < rounds; round += 1) {
        const body = unique('comment')
        let id = 0
        const write = async () => {
          const answer = await api.post(path, { comment: { body } }, reader.token)
          id = expectBody(answer, 201).comment.id
          return answer
        }
        await expectSeen(viewers, write, [
          [
            path,
            (answer) =>
              assert.deepEqual(
                answer.body.comments.map((comment) => comment.body),
                [body],
              ),
          ],
        ])
        await expectSeen(viewers, () => api.remove(`${path}/${id}`, reader.token), [
          [path, (answer) => assert.deepEqual(answer.body.comments, [])],
        ])
      }
    })

    it('no longer sees a deleted article', async () => {
      for (let round = 0; round < rounds; round += 1) {
        const { author, reader, tag, article, viewers } = await scene()
        await api.favorite(reader, article.slug)
        await api.follow(reader, author.username)
        await api.follow(author, author.username)
        const gone = (answer: Answer) => expectBody(answer, 404)
        const empty = ({ body }: Answer) => assert.deepEqual([body.articles, body.articlesCount], [[], 0])
        const path = articlePath(article.slug)
        await api.get('/articles/feed', reader.token)
        await expectSeen(viewers, () => api.remove(path, author.token), [
          [path, gone],
          [`${path}/comments`, gone],
          [`/articles?author=${author.username}`, empty],
          [`/articles?tag=${tag}`, empty],
          [`/articles?favorited=${reader.username}`, empty],
          ['/articles?limit=100', ({ body }) => assert.ok(!body.articles.some(({ slug }) => slug === article.slug))],
          ['/tags', ({ body }) => assert.ok(!body.tags.includes(tag))],
        ])
        empty(await api.get('/articles/feed', reader.token))
      }
    })

    it('sees a name that has just come, and one that has just gone', async () => {
      const [reader, person] = [await api.person(), await api.person()]
      const username = unique('new')
      const found = (answer: Answer) => expectBody(answer)
      const gone = (answer: Answer) => expectBody(answer, 404)
      const viewers = [reader.token, undefined]
      const rename = () => api.put('/user', { user: { username } }, person.token)
      await expectSeen(viewers, rename, [
        [profilePath(username), found],
        [profilePath(person.username), gone],
      ])
      const user = { username: person.username, email: `${unique('mail')}@example.com`, password: 'correct horse' }
      await expectSeen(viewers, () => api.post('/users', { user }), [[profilePath(person.username), found]])
      expectBody(await api.post('/users/login', { user }))
    })
  })
}
