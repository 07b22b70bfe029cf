import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  articlePath,
  type Conduit,
  expectBody,
  expectErrors,
  expectErrorsOf,
  expectOneOf,
  type NewArticle,
  profilePath,
  unique,
} from './conduit-client.ts'
import { expectArticle } from './conduit-shapes.ts'

const blank = ["can't be blank"]
const notFound = { article: ['not found'] }
const forbidden = { article: ['forbidden'] }
const newArticle = () => ({ title: unique('Title'), description: 'What it is about', body: 'All of it' })

/** Creating, reading, changing and deleting one article. */
export function articleTests(api: Conduit): void {
  const create = (token: string, article: unknown) => api.post('/articles', { article }, token)
  const update = (token: string, slug: string, article: unknown) => api.put(articlePath(slug), { article }, token)
  const read = async (slug: string, token?: string) => expectBody(await api.get(articlePath(slug), token)).article
  const tagsInUse = async () => expectBody(await api.get('/tags')).tags

  describe('a new article', () => {
    it('is answered with 201 and found under its slug', async () => {
      const author = await api.person()
      const asked = { ...newArticle(), tagList: [unique('b'), unique('a'), unique('c')] }
      const { article } = expectBody(await create(author.token, asked), 201)
      expectArticle(article)
      const profile = { username: author.username, bio: null, image: null, following: false }
      const { slug, createdAt, updatedAt } = article
      const rest = { slug, createdAt, updatedAt, favorited: false, favoritesCount: 0, author: profile }
      assert.deepEqual(article, { ...asked, ...rest })
      assert.deepEqual(await read(slug), article)
      assert.deepEqual(await read(slug, author.token), article)
    })

    it('has no tags when none are named', async () => {
      const author = await api.person()
      assert.deepEqual((await api.article(author)).tagList, [])
      assert.deepEqual((await api.article(author, { tagList: [] })).tagList, [])
    })

    for (const field of ['title', 'description', 'body']) {
      for (const [name, value] of [
        ['empty', ''],
        ['null', null],
        ['absent', undefined],
        ['spaces', '   '],
      ] as const) {
        it(`must not have a blank ${field} (${name})`, async () => {
          const { token, username } = await api.person()
          expectErrors(await create(token, { ...newArticle(), [field]: value }), 422, { [field]: blank })
          assert.equal((await api.list({ author: username })).articlesCount, 0)
        })
      }
    }

    it('must say something', async () => {
      const { token } = await api.person()
      for (const body of [{}, { article: {} }, { article: null }, { article: [] }, { article: 'text' }]) {
        expectBody(await api.post('/articles', body, token), 422)
      }
    })

    for (const tagList of [null, 'one', { 0: 'one' }, [1], [null], [['one']], 7]) {
      it(`must not have the tags ${JSON.stringify(tagList)}`, async () => {
        const { token } = await api.person()
        const { errors } = expectBody(await create(token, { ...newArticle(), tagList }), 422)
        assert.ok(
          Object.keys(errors).every((key) => key.startsWith('tagList')),
          JSON.stringify(errors),
        )
      })
    }

    it('has each tag in the order given, and counts once under one named twice', async () => {
      const author = await api.person()
      const [z, a, m] = [unique('z'), unique('a'), unique('m')]
      const { slug, tagList } = await api.article(author, { tagList: [z, a, z, m, a] })
      assert.deepEqual([...new Set(tagList)], [z, a, m])
      assert.deepEqual((await read(slug)).tagList, tagList)
      for (const tag of [z, a, m]) {
        const { articles, articlesCount } = await api.list({ tag })
        assert.deepEqual([articles.length, articlesCount], [1, 1])
        assert.equal((await tagsInUse()).filter((name) => name === tag).length, 1)
      }
    })

    it('has a slug of its own, whoever else has its title', async () => {
      const [one, two] = [await api.person(), await api.person()]
      const title = unique('Same title')
      const articles = [
        await api.article(one, { title, body: 'first' }),
        await api.article(one, { title, body: 'second' }),
        await api.article(two, { title, body: 'third' }),
        await api.article(two, { title: title.toUpperCase(), body: 'fourth' }),
      ]
      assert.equal(new Set(articles.map(({ slug }) => slug)).size, articles.length)
      for (const { slug, body } of articles) assert.equal((await read(slug)).body, body)
    })

    it('has a slug of its own when many come with one title at the same time', async () => {
      const author = await api.person()
      const title = unique('Same title')
      const articles = await Promise.all(Array.from({ length: 8 }, () => api.article(author, { title })))
      assert.equal(new Set(articles.map(({ slug }) => slug)).size, articles.length)
      assert.equal((await api.list({ author: author.username })).articlesCount, articles.length)
    })

    const titles = [
      'feed',
      'Feed',
      'search',
      'new',
      '!!!',
      '-',
      '..',
      '.',
      'a/b',
      '%2F',
      '?a=b#c',
      '日本語',
      '🙂',
      'ÄÖÜ ß',
      "it's",
      '"quoted"',
      '\u202Ertl',
    ]
    for (const title of titles) {
      it(`is found under its slug with the title ${JSON.stringify(title)}`, async () => {
        const author = await api.person()
        const article = await api.article(author, { title })
        assert.equal(article.title, title)
        assert.deepEqual(await read(article.slug), article)
        assert.equal((await read((await api.article(author, { title })).slug)).title, title)
        expectBody(await api.remove(articlePath(article.slug), author.token), 204)
      })
    }

    for (const length of [120, 250, 1000, 10_000]) {
      it(`may be refused a title of ${length} characters, else is found under its slug`, async () => {
        const { token } = await api.person()
        for (const letter of ['x', 'ü', '🙂']) {
          const title = letter.repeat(length)
          const answer = await create(token, { ...newArticle(), title })
          const allowed = length <= 120 ? [201] : [201, 422]
          if (expectOneOf(answer, allowed) === 422) expectErrorsOf(answer, 422, 'title')
          else assert.equal((await read(answer.body.article.slug)).title, title)
        }
      })
    }

    it('may have a long body', async () => {
      const author = await api.person()
      const body = 'All of it, and more. '.repeat(5000)
      assert.equal((await read((await api.article(author, { body })).slug)).body, body)
    })
  })

  describe('an article', () => {
    it('that does not exist is not found', async () => {
      const { token } = await api.person()
      const slug = unique('no-such-article')
      expectErrors(await api.get(articlePath(slug)), 404, notFound)
      expectErrors(await api.get(articlePath(slug), token), 404, notFound)
      expectErrors(await update(token, slug, { body: 'new' }), 404, notFound)
      expectErrors(await api.remove(articlePath(slug), token), 404, notFound)
    })

    for (const field of ['title', 'description', 'body'] as const) {
      it(`has its ${field} changed alone`, async () => {
        const author = await api.person()
        const before = await api.article(author, { tagList: [unique('tag')] })
        const change = { [field]: unique('Changed') }
        const { article } = expectBody(await update(author.token, before.slug, change))
        expectArticle(article)
        const { slug, updatedAt } = article
        assert.deepEqual(article, { ...before, ...change, slug, updatedAt })
        assert.deepEqual(await read(slug), article)
        if (field !== 'title') assert.equal(slug, before.slug)
      })

      for (const value of ['', null, '   ']) {
        it(`keeps its ${field} when the new one is blank (${JSON.stringify(value)})`, async () => {
          const author = await api.person()
          const before = await api.article(author)
          const change = { body: 'half done', [field]: value }
          expectErrors(await update(author.token, before.slug, change), 422, { [field]: blank })
          assert.deepEqual(await read(before.slug), before)
        })
      }
    }

    it('stays the same article under a new title', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const tag = unique('tag')
      const before = await api.article(author, { tagList: [tag] })
      const comment = await api.comment(reader, before.slug)
      await api.favorite(reader, before.slug)
      const { article } = expectBody(await update(author.token, before.slug, { title: unique('New title') }))
      const { slug } = article
      assert.deepEqual([article.favoritesCount, article.tagList, article.createdAt], [1, [tag], before.createdAt])
      const { comments } = expectBody(await api.get(`${articlePath(slug)}/comments`))
      assert.deepEqual(
        comments.map(({ id }) => id),
        [comment.id],
      )
      assert.deepEqual(
        (await api.list({ tag })).articles.map((item) => item.slug),
        [slug],
      )
      assert.deepEqual(
        (await api.list({ favorited: reader.username })).articles.map((item) => item.slug),
        [slug],
      )
      if (slug !== before.slug) {
        const old = await api.get(articlePath(before.slug))
        if (expectOneOf(old, [200, 404]) === 200) assert.equal(old.body.article.title, article.title)
      }
    })

    it('keeps its slug under the title it had', async () => {
      const author = await api.person()
      const { slug, title } = await api.article(author)
      assert.equal(expectBody(await update(author.token, slug, { title })).article.slug, slug)
    })

    it('has a slug of its own under a title that another one has', async () => {
      const author = await api.person()
      const [one, two] = [await api.article(author), await api.article(author)]
      const { article } = expectBody(await update(author.token, two.slug, { title: one.title }))
      assert.notEqual(article.slug, one.slug)
      assert.equal(article.title, one.title)
      assert.deepEqual(await read(one.slug), one)
      assert.deepEqual(await read(article.slug), article)
    })

    it('has its tags replaced, cleared or kept', async () => {
      const author = await api.person()
      const [a, b, c] = [unique('a'), unique('b'), unique('c')]
      const { slug } = await api.article(author, { tagList: [b, a] })
      const steps: [NewArticle, string[]][] = [
        [{ body: 'new' }, [b, a]],
        [{ tagList: [a, b] }, [a, b]],
        [{ tagList: [c, a] }, [c, a]],
        [{ tagList: [] }, []],
        [{ body: 'newer' }, []],
        [{ tagList: [b] }, [b]],
      ]
      for (const [change, expected] of steps) {
        assert.deepEqual(expectBody(await update(author.token, slug, change)).article.tagList, expected)
        assert.deepEqual((await read(slug)).tagList, expected)
        for (const tag of [a, b, c]) {
          const listed = await api.list({ tag })
          assert.equal(listed.articlesCount, expected.includes(tag) ? 1 : 0)
          assert.equal((await tagsInUse()).includes(tag), expected.includes(tag))
        }
      }
      for (const tagList of [null, 'one', [1]]) {
        const { errors } = expectBody(await update(author.token, slug, { tagList }), 422)
        assert.ok(
          Object.keys(errors).every((key) => key.startsWith('tagList')),
          JSON.stringify(errors),
        )
      }
      assert.deepEqual((await read(slug)).tagList, [b])
    })

    it('is dated by its creation and its last change', async () => {
      const author = await api.person()
      const before = await api.article(author)
      let previous = before.updatedAt
      for (const body of ['second', 'third']) {
        // Reads until the clock has moved on, so that two dates of ms can differ at all.
        for (const start = Date.now(); Date.now() < start + 2; ) await read(before.slug)
        const { article } = expectBody(await update(author.token, before.slug, { body }))
        assert.ok(Date.parse(article.updatedAt) > Date.parse(previous), `${article.updatedAt} after ${previous}`)
        assert.equal(article.createdAt, before.createdAt)
        previous = article.updatedAt
      }
    })

    it('belongs to its author', async () => {
      const [author, other] = [await api.person(), await api.person()]
      const before = await api.article(author)
      expectErrors(await update(other.token, before.slug, { title: 'Mine' }), 403, forbidden)
      expectErrors(await api.remove(articlePath(before.slug), other.token), 403, forbidden)
      assert.deepEqual(await read(before.slug), before)
    })

    it('takes an update of nothing as one, or refuses it', async () => {
      const author = await api.person()
      const before = await api.article(author, { tagList: [unique('tag')] })
      const answer = await update(author.token, before.slug, {})
      expectOneOf(answer, [200, 422])
      assert.deepEqual(await read(before.slug), { ...before, updatedAt: (await read(before.slug)).updatedAt })
      expectBody(await api.put(articlePath(before.slug), {}, author.token), 422)
    })

    it('lets nobody choose what is the app’s to choose', async () => {
      const [author, other] = [await api.person(), await api.person()]
      const more = { slug: unique('mine'), favoritesCount: 9, favorited: true, createdAt: '2001-01-01T00:00:00.000Z' }
      const created = await create(author.token, { ...newArticle(), ...more, author: { username: other.username } })
      if (expectOneOf(created, [201, 422]) === 422) return
      const { slug } = created.body.article
      expectOneOf(await update(author.token, slug, { ...more, author: { username: other.username } }), [200, 422])
      const article = await read(slug)
      assert.deepEqual([article.favoritesCount, article.favorited], [0, false])
      assert.equal(article.author.username, author.username)
      assert.notEqual(article.createdAt, more.createdAt)
    })

    it('survives many changes at the same time', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const bodies = Array.from({ length: 8 }, (_, index) => `body ${index}`)
      const tags = bodies.map(() => unique('tag'))
      const answers = await Promise.all(
        bodies.map((body, index) => update(author.token, slug, { body, tagList: [tags[index]] })),
      )
      for (const answer of answers) expectBody(answer)
      const article = await read(slug)
      assert.deepEqual(article.tagList, [tags[bodies.indexOf(article.body)]])
      const listed = (await tagsInUse()).filter((tag) => tags.includes(tag))
      assert.deepEqual(listed, article.tagList)
    })
  })

  describe('a deleted article', () => {
    it('is gone from everywhere', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const tag = unique('tag')
      const kept = await api.article(author)
      const { slug } = await api.article(author, { tagList: [tag] })
      const comment = await api.comment(reader, slug)
      await api.favorite(reader, slug)
      await api.follow(reader, author.username)
      expectBody(await api.remove(articlePath(slug), author.token), 204)
      expectErrors(await api.get(articlePath(slug)), 404, notFound)
      expectErrors(await api.get(`${articlePath(slug)}/comments`), 404, notFound)
      expectErrors(await api.remove(`${articlePath(slug)}/comments/${comment.id}`, reader.token), 404, notFound)
      expectErrors(await api.favorite(reader, slug), 404, notFound)
      expectErrors(await api.unfavorite(reader, slug), 404, notFound)
      expectErrors(await api.remove(articlePath(slug), author.token), 404, notFound)
      expectErrors(await update(author.token, slug, { body: 'back' }), 404, notFound)
      const lists = [
        await api.list({ author: author.username }),
        expectBody(await api.get('/articles/feed', reader.token)),
      ]
      for (const { articles, articlesCount } of lists) {
        assert.deepEqual([articlesCount, articles.map((item) => item.slug)], [1, [kept.slug]])
      }
      for (const query of [{ tag }, { favorited: reader.username }]) {
        assert.deepEqual(await api.list(query), { articles: [], articlesCount: 0 })
      }
      assert.ok(!(await tagsInUse()).includes(tag))
    })

    it('leaves its title free', async () => {
      const author = await api.person()
      const first = await api.article(author, { body: 'first' })
      expectBody(await api.remove(articlePath(first.slug), author.token), 204)
      const second = await api.article(author, { title: first.title, body: 'second' })
      assert.equal((await read(second.slug)).body, 'second')
      assert.deepEqual(expectBody(await api.get(`${articlePath(second.slug)}/comments`)).comments, [])
      expectBody(await api.get(profilePath(author.username)))
    })

    it('is deleted once, however many ask at the same time', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const answers = await Promise.all(Array.from({ length: 5 }, () => api.remove(articlePath(slug), author.token)))
      assert.deepEqual(answers.map((answer) => answer.status).sort(), [204, 404, 404, 404, 404])
    })

    it('takes those who come at the same time with it, or turns them away', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      const path = articlePath(slug)
      const [removed, ...others] = await Promise.all([
        api.remove(path, author.token),
        api.favorite(reader, slug),
        api.post(`${path}/comments`, { comment: { body: 'Too late?' } }, reader.token),
        update(author.token, slug, { body: 'new' }),
        api.unfavorite(reader, slug),
      ])
      expectBody(removed, 204)
      for (const answer of others) expectOneOf(answer, [200, 201, 404])
      expectErrors(await api.get(path), 404, notFound)
      assert.deepEqual(await api.list({ favorited: reader.username }), { articles: [], articlesCount: 0 })
    })
  })
}
