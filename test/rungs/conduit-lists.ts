import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import {
  type Article,
  articlePath,
  type Conduit,
  expectBody,
  expectErrors,
  expectErrorsOf,
  expectOneOf,
  listPath,
  type Payload,
  type Person,
  unique,
} from './conduit-client.ts'
import { expectItem } from './conduit-shapes.ts'

type Query = Record<string, string | number>

const slugs = (articles: Article[]) => articles.map(({ slug }) => slug)
const none = { articles: [], articlesCount: 0 }

function expectList(list: Payload, articles: Article[]): void {
  assert.deepEqual(slugs(list.articles), slugs(articles))
  assert.equal(list.articlesCount, articles.length)
  assert.deepEqual(Object.keys(list).sort(), ['articles', 'articlesCount'])
  for (const item of list.articles) expectItem(item)
}

/** The list of articles: what is in it, in which order, and how many there are. */
export function listTests(api: Conduit): void {
  describe('the list of articles', () => {
    it('has items like the articles themselves, without body', async () => {
      const author = await api.person()
      const tagList = [unique('b'), unique('a')]
      const { body, ...item } = await api.article(author, { tagList })
      for (const query of [{ author: author.username }, { tag: tagList[0]! }]) {
        const list = await api.list(query)
        assert.equal(list.articles.length, 1, body)
        expectItem(list.articles[0]!)
        assert.deepEqual(list.articles[0], item)
      }
    })

    it('has the newest first, unfiltered too', async () => {
      const author = await api.person()
      const newest: Article[] = []
      for (let n = 0; n < 6; n += 1) newest.unshift(await api.article(author))
      const all = await api.list({ limit: 100 })
      const mine = all.articles.filter((item) => item.author.username === author.username)
      // Others may have written enough since to push the older ones off the page.
      assert.ok(mine.length > 0)
      assert.deepEqual(slugs(mine), slugs(newest.slice(0, mine.length)))
      assert.ok(all.articlesCount >= newest.length)
      // Two who write at the same moment may come in either order.
      const times = all.articles.map(({ createdAt }) => Date.parse(createdAt))
      for (const [index, time] of times.slice(1).entries()) assert.ok(time <= times[index]! + 1000)
      expectList(await api.list({ author: author.username }), newest)
    })

    it('keeps its order when an old article is changed', async () => {
      const author = await api.person()
      const [old, young] = [await api.article(author), await api.article(author)]
      expectBody(await api.put(articlePath(old.slug), { article: { body: 'new' } }, author.token))
      assert.deepEqual(slugs((await api.list({ author: author.username })).articles), slugs([young, old]))
    })

    it('is filtered by tag, author and who favorited, alone and together', async () => {
      const [ann, bob, reader, other] = await Promise.all([api.person(), api.person(), api.person(), api.person()])
      const [x, y] = [unique('x'), unique('y')]
      const annX = await api.article(ann, { tagList: [x] })
      const annXY = await api.article(ann, { tagList: [y, x] })
      const annPlain = await api.article(ann)
      const bobX = await api.article(bob, { tagList: [x] })
      const bobY = await api.article(bob, { tagList: [y] })
      for (const { slug } of [bobY, annX, bobX]) await api.favorite(reader, slug)
      await api.favorite(other, annX.slug)
      await api.favorite(other, annPlain.slug)
      const [author, favorited] = [ann.username, reader.username]
      const cases: [Query, Article[]][] = [
        [{ author }, [annPlain, annXY, annX]],
        [{ author: bob.username }, [bobY, bobX]],
        [{ author: reader.username }, []],
        [{ tag: x }, [bobX, annXY, annX]],
        [{ tag: y }, [bobY, annXY]],
        [{ favorited }, [bobY, bobX, annX]],
        [{ favorited: other.username }, [annPlain, annX]],
        [{ favorited: ann.username }, []],
        [{ tag: x, author }, [annXY, annX]],
        [{ tag: x, favorited }, [bobX, annX]],
        [{ author, favorited }, [annX]],
        [{ tag: x, author, favorited }, [annX]],
        [{ tag: y, author, favorited }, []],
        [{ tag: x, limit: 2 }, [bobX, annXY]],
        [{ tag: x, favorited, limit: 1, offset: 1 }, [annX]],
      ]
      const counts: Record<number, number> = { 13: 3, 14: 2 }
      for (const [index, [query, expected]] of cases.entries()) {
        for (const token of [undefined, reader.token]) {
          const list = await api.list(query, token)
          assert.deepEqual(slugs(list.articles), slugs(expected), JSON.stringify(query))
          assert.equal(list.articlesCount, counts[index] ?? expected.length, JSON.stringify(query))
          for (const item of list.articles) {
            expectItem(item)
            assert.equal(
              item.favorited,
              token !== undefined && [bobY, annX, bobX].some(({ slug }) => slug === item.slug),
            )
          }
        }
      }
    })

    it('is empty for a filter that nothing meets', async () => {
      const author = await api.person()
      const { tagList } = await api.article(author, { tagList: [unique('tag')] })
      const nobody = unique('nobody')
      const queries = [
        { tag: nobody },
        { author: nobody },
        { favorited: nobody },
        { author: author.username, tag: nobody },
        { author: nobody, tag: tagList[0]! },
        { author: author.username, favorited: nobody },
        { author: author.username, tag: tagList[0]!, favorited: nobody },
      ]
      for (const query of queries) assert.deepEqual(await api.list(query), none, JSON.stringify(query))
    })

    it('takes a filter at its word: no pattern, no part, no SQL', async () => {
      const author = await api.person()
      const tag = unique('tag')
      await api.article(author, { tagList: [tag] })
      const likes = ['%', '_', tag.slice(0, -1), `${tag}%`, `%${tag}`, `${tag}' or '1'='1`, `${tag}';--`, `${tag},x`]
      for (const like of [...likes, `{${tag}}`, tag.replace('-', '_'), `${tag}\\`, `["${tag}"]`]) {
        assert.equal((await api.list({ tag: like, author: author.username })).articlesCount, 0, like)
      }
      for (const like of [
        '%',
        author.username.slice(0, -1),
        `${author.username}%`,
        author.username.replace('-', '_'),
      ]) {
        assert.deepEqual(await api.list({ author: like, tag }), none, like)
      }
    })

    it('finds tags of any letters', async () => {
      const author = await api.person()
      for (const odd of [
        'c++',
        'a&b=c',
        'per%cent',
        'under_score',
        'with space',
        "o'tag",
        'ümläut',
        '日本',
        '🙂',
        'a,b',
        '#x',
        '"q"',
      ]) {
        const tag = `${odd}${unique('')}`
        const article = await api.article(author, { tagList: [tag] })
        expectList(await api.list({ tag }), [article])
        assert.ok(expectBody(await api.get('/tags')).tags.includes(tag), tag)
      }
    })

    it('answers odd queries or refuses them', async () => {
      const odd = [
        'tag=',
        'author=',
        'favorited=',
        'tag=a&tag=b',
        'author[]=a',
        'tag[x]=y',
        'nonsense=1',
        'limit=',
        '&&=&',
      ]
      for (const query of [...odd, 'tag=%00', 'author=%00', 'tag=%ff', 'tag=%zz', `tag=${'x'.repeat(5000)}`]) {
        expectOneOf(await api.get(`/articles?${query}`), [200, 400, 414, 422])
      }
    })
  })
}

/** Pages: of the list of articles by one author, and of a feed. */
export function pagingTests(api: Conduit): void {
  describe('pages', () => {
    const total = 23
    let author: Person
    let fan: Person
    let newest: Article[]

    before(async () => {
      ;[author, fan] = [await api.person(), await api.person()]
      await api.follow(fan, author.username)
      newest = []
      for (let n = 0; n < total; n += 1)
        newest.unshift(await api.article(author, { tagList: [`${author.username}-tag`] }))
    })

    const sources: [string, (query: Query) => string][] = [
      ['author', (query) => listPath({ author: author.username, ...query })],
      ['tag', (query) => listPath({ tag: `${author.username}-tag`, ...query })],
      ['feed', (query) => `/articles/feed?${listPath(query).split('?')[1]}`],
    ]
    for (const [name, path] of sources) {
      const page = async (query: Query) => expectBody(await api.get(path(query), fan.token))

      it(`of ${name}: 20 when no limit is named`, async () => {
        const { articles, articlesCount } = await page({})
        assert.deepEqual(slugs(articles), slugs(newest.slice(0, 20)))
        assert.equal(articlesCount, total)
      })

      it(`of ${name}: any cut of the whole, with the count of the whole`, async () => {
        const cuts = [
          [1, 0],
          [1, 22],
          [5, 0],
          [5, 20],
          [7, 3],
          [23, 0],
          [24, 0],
          [100, 0],
          [20, 10],
          [3, 21],
          [1, 1],
        ] as const
        for (const [limit, offset] of cuts) {
          const { articles, articlesCount } = await page({ limit, offset })
          assert.deepEqual(slugs(articles), slugs(newest.slice(offset, offset + limit)), `${limit} from ${offset}`)
          assert.equal(articlesCount, total)
        }
        assert.deepEqual(slugs((await page({ offset: 4 })).articles), slugs(newest.slice(4, 24)))
      })

      it(`of ${name}: empty beyond the end, however far`, async () => {
        for (const offset of [total, total + 1, 1000, 2 ** 31, 1e15]) {
          const { articles, articlesCount } = await page({ offset })
          assert.deepEqual([articles, articlesCount], [[], total], `offset ${offset}`)
        }
      })

      it(`of ${name}: a limit of a billion is no trouble`, async () => {
        for (const limit of [1e9, 2 ** 31]) {
          const { articles, articlesCount } = await page({ limit })
          assert.deepEqual([articles.length, articlesCount], [total, total])
        }
      })

      for (const limit of ['0', '-1', '1.5', 'abc', '-1000000000', '1;drop', 'null']) {
        it(`of ${name}: refuses the limit ${limit}`, async () => {
          expectErrorsOf(await api.get(path({ limit }), fan.token), 422, 'limit')
        })
      }

      for (const offset of ['-1', '1.5', 'abc', '-1000000000000000']) {
        it(`of ${name}: refuses the offset ${offset}`, async () => {
          expectErrorsOf(await api.get(path({ offset }), fan.token), 422, 'offset')
        })
      }

      it(`of ${name}: numbers beyond all bounds are answered or refused`, async () => {
        for (const value of ['9007199254740993', '99999999999999999999', '1e400', 'Infinity', 'NaN', '1e9', '%001']) {
          expectOneOf(await api.get(path({ limit: value }), fan.token), [200, 422])
          expectOneOf(await api.get(path({ offset: value }), fan.token), [200, 422])
        }
      })
    }
  })
}

/** What those whom one follows have written. */
export function feedTests(api: Conduit): void {
  const feed = async (token: string) => expectBody(await api.get('/articles/feed', token))

  describe('the feed', () => {
    it('is empty for who follows nobody, whatever they write', async () => {
      const person = await api.person()
      await api.article(person)
      assert.deepEqual(await feed(person.token), none)
    })

    it('has the articles of those one follows, newest first, and follows changes at once', async () => {
      const [fan, ann, bob, other] = await Promise.all([api.person(), api.person(), api.person(), api.person()])
      const old = await api.article(ann)
      await api.article(other)
      await api.follow(fan, ann.username)
      expectList(await feed(fan.token), [old])
      await api.follow(fan, bob.username)
      await api.follow(other, fan.username)
      const [bob1, ann2, bob2] = [await api.article(bob), await api.article(ann), await api.article(bob)]
      await api.article(fan)
      expectList(await feed(fan.token), [bob2, ann2, bob1, old])
      expectBody(await api.remove(articlePath(bob2.slug), bob.token), 204)
      expectList(await feed(fan.token), [ann2, bob1, old])
      await api.unfollow(fan, ann.username)
      expectList(await feed(fan.token), [bob1])
      await api.unfollow(fan, bob.username)
      assert.deepEqual(await feed(fan.token), none)
      await api.follow(fan, ann.username)
      expectList(await feed(fan.token), [ann2, old])
    })

    it('is shown as its reader sees it', async () => {
      const [fan, author] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      await api.follow(fan, author.username)
      await api.favorite(fan, slug)
      await api.favorite(author, slug)
      const [item] = (await feed(fan.token)).articles
      assert.deepEqual([item?.favorited, item?.favoritesCount, item?.author.following], [true, 2, true])
    })

    it('takes no filters', async () => {
      const [fan, author] = [await api.person(), await api.person()]
      await api.follow(fan, author.username)
      const article = await api.article(author)
      const answer = await api.get(`/articles/feed?author=${unique('nobody')}`, fan.token)
      if (expectOneOf(answer, [200, 422]) === 200) expectList(answer.body, [article])
    })

    it('needs a token', async () => {
      expectErrors(await api.get('/articles/feed'), 401, { token: ['is missing'] })
    })
  })
}

/** What can only be measured where nobody else writes: tries again while others do. */
export function totalTests(api: Conduit): void {
  const triesMax = 200

  describe('the total', () => {
    it('of the unfiltered list is exact', async () => {
      const author = await api.person()
      const total = async () => (await api.list({ limit: 1 })).articlesCount
      for (let tries = 0; tries < triesMax; tries += 1) {
        const counts = [await total()]
        const { slug } = await api.article(author)
        counts.push(await total())
        expectBody(await api.remove(articlePath(slug), author.token), 204)
        counts.push(await total())
        const [first, second, third] = counts
        if (second === first! + 1 && third === first) return
      }
      assert.fail(`never grew by the one article written, in ${triesMax} tries`)
    })
  })
}
