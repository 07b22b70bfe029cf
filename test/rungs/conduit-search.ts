import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import {
  type Answer,
  type Article,
  articlePath,
  type Conduit,
  expectBody,
  expectErrorsOf,
  expectOneOf,
  type Person,
  unique,
} from './conduit-client.ts'
import { expectItem } from './conduit-shapes.ts'

export type FoundArticle = Article & { highlights: { title?: string; description?: string; body?: string } }

export interface Found {
  articles: FoundArticle[]
  articlesCount: number
  articlesCountIs: 'exact' | 'at least'
  facets: { tags: { tag: string; count: number }[]; authors: { username: string; count: number }[] }
  facetsAre: 'exact' | 'estimated'
  corrected: string | null
}

/** A word that no other test uses, of letters that no stemmer takes away. */
export function uniqueWord(): string {
  return Array.from(randomBytes(12), (byte) => 'bcdfghklmnprtvz'[byte % 15]).join('')
}

export const searchPath = (query: Record<string, string | number | boolean>) =>
  `/articles/search?${new URLSearchParams(Object.entries(query).map(([key, value]): [string, string] => [key, String(value)]))}`

export function foundIn(answer: Answer): Found {
  return expectBody(answer) as unknown as Found
}

const nothing: Found = {
  articles: [],
  articlesCount: 0,
  articlesCountIs: 'exact',
  facets: { tags: [], authors: [] },
  facetsAre: 'exact',
  corrected: null,
}

export function searchTests(api: Conduit): void {
  const find = async (query: Record<string, string | number | boolean>, token?: string) =>
    foundIn(await api.get(searchPath(query), token))
  const slugs = async (q: string) => (await find({ q })).articles.map(({ slug }) => slug)

  describe('the search', () => {
    it('finds an article by each of its texts, the title first, at once', async () => {
      const author = await api.person()
      const word = uniqueWord()
      const inBody = await api.article(author, { body: `All of ${word} and more` })
      const inTags = await api.article(author, { tagList: [word] })
      const inTitle = await api.article(author, { title: `${word} at last`, tagList: [word] })
      const inDescription = await api.article(author, { description: `What ${word} is about` })
      const found = await find({ q: word })
      assert.deepEqual([found.articlesCount, found.articlesCountIs, found.corrected], [4, 'exact', null])
      assert.equal(found.articles[0]!.slug, inTitle.slug)
      assert.equal(found.articles[3]!.slug, inBody.slug)
      const sorted = [inBody, inTags, inTitle, inDescription].map(({ slug }) => slug).sort()
      assert.deepEqual(found.articles.map(({ slug }) => slug).sort(), sorted)
      for (const { highlights, ...article } of found.articles) {
        expectItem(article as Article)
        const { body, ...item } = expectBody(await api.get(articlePath(article.slug))).article
        assert.deepEqual(article, item)
        assert.deepEqual(Object.keys(highlights).sort(), ['body', 'description', 'title'])
        assert.ok(body !== '')
      }
      assert.deepEqual(found.facets, {
        tags: [{ tag: word, count: 2 }],
        authors: [{ username: author.username, count: 4 }],
      })
    })

    it('finds it under its new words and no longer under the old ones', async () => {
      const author = await api.person()
      const [before, after, tag] = [uniqueWord(), uniqueWord(), uniqueWord()]
      const { slug } = await api.article(author, { title: before })
      const { article } = expectBody(
        await api.put(articlePath(slug), { article: { title: after, tagList: [tag] } }, author.token),
      )
      assert.deepEqual(await slugs(before), [])
      assert.deepEqual(await slugs(after), [article.slug])
      assert.deepEqual(await slugs(tag), [article.slug])
      expectBody(await api.put(articlePath(article.slug), { article: { tagList: [] } }, author.token))
      assert.deepEqual(await slugs(tag), [])
      expectBody(await api.put(articlePath(article.slug), { article: { body: tag } }, author.token))
      assert.deepEqual(await slugs(tag), [article.slug])
    })

    it('finds no deleted article, and none that was refused', async () => {
      const [author, other] = [await api.person(), await api.person()]
      const [word, refused] = [uniqueWord(), uniqueWord()]
      const { slug } = await api.article(author, { title: word })
      expectBody(await api.put(articlePath(slug), { article: { body: refused } }, other.token), 403)
      expectBody(await api.remove(articlePath(slug), other.token), 403)
      expectOneOf(await api.put(articlePath(slug), { article: { body: `${refused}\u0000` } }, author.token), [400, 422])
      assert.deepEqual(await slugs(refused), [])
      assert.deepEqual(await slugs(word), [slug])
      expectBody(await api.remove(articlePath(slug), author.token), 204)
      assert.deepEqual(await find({ q: word }), nothing)
    })

    it('has the last of many changes at the same time', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const words = Array.from({ length: 8 }, uniqueWord)
      await Promise.all(words.map((body) => api.put(articlePath(slug), { article: { body } }, author.token)))
      const { body } = expectBody(await api.get(articlePath(slug))).article
      for (const word of words) assert.deepEqual(await slugs(word), word === body ? [slug] : [])
    })

    it('keeps to a tag and to an author', async () => {
      const [one, two] = [await api.person(), await api.person()]
      const [word, a, b] = [uniqueWord(), unique('a'), unique('b=b')]
      const first = await api.article(one, { title: word, tagList: [a, b] })
      const second = await api.article(two, { title: word, tagList: [b] })
      await api.article(two, { tagList: [a] })
      const of = async (query: Record<string, string>) => {
        const found = await find({ q: word, ...query })
        assert.equal(found.articlesCount, found.articles.length)
        return found.articles.map(({ slug }) => slug).sort()
      }
      const both = [first.slug, second.slug].sort()
      assert.deepEqual(await of({}), both)
      assert.deepEqual(await of({ tag: a }), [first.slug])
      assert.deepEqual(await of({ tag: b }), both)
      assert.deepEqual(await of({ author: two.username }), [second.slug])
      assert.deepEqual(await of({ author: two.username, tag: b }), [second.slug])
      assert.deepEqual(await of({ author: two.username, tag: a }), [])
      assert.deepEqual(await find({ q: word, tag: unique('none') }), nothing)
      assert.deepEqual(await find({ q: word, author: unique('nobody') }), nothing)
      const { facets } = await find({ q: word, tag: b })
      assert.deepEqual(new Set(facets.tags.map(({ tag, count }) => `${count} ${tag}`)), new Set([`1 ${a}`, `2 ${b}`]))
      const username = unique('new')
      expectBody(await api.put('/user', { user: { username } }, two.token))
      assert.deepEqual(await of({ author: username }), [second.slug])
      assert.deepEqual(
        new Set((await find({ q: word })).facets.authors.map((author) => author.username)),
        new Set([one.username, username]),
      )
    })

    it('takes tags of any length and script', async () => {
      const author = await api.person()
      for (const tag of [
        `${unique('x')}${'🙂'.repeat(200)}`,
        `${unique('ü')}${'ü'.repeat(200)}`,
        unique('a b, c'),
        '=',
        '#1',
      ]) {
        const word = uniqueWord()
        const { slug } = await api.article(author, { title: word, tagList: [tag] })
        const { articles, facets } = await find({ q: word, tag })
        assert.deepEqual([articles.map((one) => one.slug), facets.tags], [[slug], [{ tag, count: 1 }]])
      }
    })

    it('comes in pages, each article on one of them', async () => {
      const author = await api.person()
      const word = uniqueWord()
      const all: string[] = []
      for (let n = 0; n < 7; n += 1) all.push((await api.article(author, { title: `${word} ${n}` })).slug)
      const pages = []
      for (const offset of [0, 3, 6]) pages.push(await find({ q: word, limit: 3, offset }))
      assert.deepEqual(
        pages.map(({ articles }) => articles.length),
        [3, 3, 1],
      )
      assert.deepEqual(
        pages.map(({ articlesCount }) => articlesCount),
        [7, 7, 7],
      )
      assert.deepEqual(pages.flatMap(({ articles }) => articles.map(({ slug }) => slug)).sort(), all.sort())
      const beyond = await find({ q: word, offset: 500 })
      assert.deepEqual([beyond.articles, beyond.articlesCount], [[], 7])
      assert.equal((await find({ q: word, limit: 1_000_000 })).articles.length, 7)
    })

    it('takes a misspelt word for the one that was meant', async () => {
      const author = await api.person()
      const word = uniqueWord()
      const { slug } = await api.article(author, { title: `Of ${word}` })
      const swapped = `${word.slice(0, 5)}${word[6]}${word[5]}${word.slice(7)}`
      for (const typo of [
        `${word.slice(0, 4)}${word.slice(5)}`,
        `${word.slice(0, 4)}y${word.slice(4)}`,
        ...(swapped === word ? [] : [swapped]),
      ]) {
        const { articles, corrected } = await find({ q: typo })
        assert.deepEqual([articles.map((one) => one.slug), corrected], [[slug], word], `${typo} for ${word}`)
      }
      assert.equal((await find({ q: word })).corrected, null)
    })

    it('takes the last word for the beginning of one, where that is asked for', async () => {
      const author = await api.person()
      const [first, last] = [uniqueWord(), uniqueWord()]
      const { slug } = await api.article(author, { title: `${first} ${last}` })
      const begun = last.slice(0, 6)
      const of = async (q: string, prefix: boolean) => (await find({ q, prefix })).articles.map((one) => one.slug)
      assert.deepEqual(await of(`${first} ${begun}`, true), [slug])
      assert.deepEqual(await of(begun, true), [slug])
      assert.deepEqual(await of(`${first} ${begun}`, false), [])
    })

    it('understands quotes and a minus', async () => {
      const author = await api.person()
      const [a, b] = [uniqueWord(), uniqueWord()]
      const both = await api.article(author, { title: `${a} ${b}` })
      const apart = await api.article(author, { title: `${b} of ${a}` })
      assert.deepEqual((await slugs(`${a} ${b}`)).sort(), [both.slug, apart.slug].sort())
      assert.deepEqual(await slugs(`"${a} ${b}"`), [both.slug])
      assert.deepEqual(await slugs(`${a} -"${a} ${b}"`), [apart.slug])
      assert.deepEqual(await slugs(`${a} -${b}`), [])
    })

    it('marks what was found in HTML that is safe to show', async () => {
      const author = await api.person()
      const word = uniqueWord()
      const evil = `<script>alert("${word}")</script> & <img src=x onerror='${word}'> <mark>${word}</mark>`
      const { slug } = await api.article(author, {
        title: evil,
        description: evil,
        body: `${'More. '.repeat(500)}${evil}`,
      })
      const { articles } = await find({ q: word })
      const [{ highlights, title }] = articles as [FoundArticle]
      assert.deepEqual([articles.map((one) => one.slug), title], [[slug], evil])
      for (const html of Object.values(highlights)) {
        assert.ok(html.includes(`<mark>${word}</mark>`), html)
        const rest = html.replaceAll('<mark>', '').replaceAll('</mark>', '')
        assert.ok(!/[<>"']/.test(rest.replaceAll(/&(lt|gt|amp|quot|#39);/g, '')), html)
        assert.ok(!/&(?!(lt|gt|amp|quot|#39);)/.test(rest), html)
        assert.ok(html.length < 2_000, `${html.length} characters`)
      }
      assert.ok(highlights.title?.includes('&lt;/script&gt;'), highlights.title)
    })

    it('shows what the viewer favors and whom he follows', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const word = uniqueWord()
      const { slug } = await api.article(author, { title: word })
      await api.article(reader, { title: word })
      await api.favorite(reader, slug)
      await api.follow(reader, author.username)
      const flags = async (viewer?: Person) => {
        const { articles } = await find({ q: word, author: author.username }, viewer?.token)
        return articles.map((one) => [one.favorited, one.favoritesCount, one.author.following])
      }
      assert.deepEqual(await flags(reader), [[true, 1, true]])
      assert.deepEqual(await flags(author), [[false, 1, false]])
      assert.deepEqual(await flags(), [[false, 1, false]])
      assert.equal(expectBody(await api.get(searchPath({ q: word }), 'no-token')).articles[0]?.favorited, false)
      await api.unfavorite(reader, slug)
      await api.unfollow(reader, author.username)
      assert.deepEqual(await flags(reader), [[false, 0, false]])
    })

    it('refuses what means nothing', async () => {
      for (const q of ['', ' ', '\t\n']) expectErrorsOf(await api.get(searchPath({ q })), 422, 'q')
      expectErrorsOf(await api.get('/articles/search'), 422, 'q')
      for (const limit of [0, -1, 1.5, 'many', ''])
        expectErrorsOf(await api.get(searchPath({ q: 'a', limit })), 422, 'limit')
      for (const offset of [-1, 501, 0.5, 'far', 2 ** 53])
        expectErrorsOf(await api.get(searchPath({ q: 'a', offset })), 422, 'offset')
      expectErrorsOf(await api.get(searchPath({ q: 'a', prefix: 'maybe' })), 422, 'prefix')
      expectErrorsOf(await api.get('/articles/search?q=a&q=b'), 422, 'q')
    })

    it('answers whatever is looked for', async () => {
      const odd = [
        ...[
          '\u0000',
          'a\u0000b',
          '%00',
          '\ud800',
          '"',
          '"""',
          '-',
          '--',
          '- -',
          '-a',
          '&',
          '|',
          '!',
          '!!!',
          '()',
          ':*',
          'a:*',
          "'",
        ],
        ...[
          "'; drop table article; --",
          '\\',
          '\\\\',
          '<script>',
          'the',
          'the and of',
          '日本語',
          '🙂',
          '\u202e',
          'a & b | !c',
          '* ? . ^ $',
        ],
        ...['x'.repeat(10_000), 'word '.repeat(2_000), '"'.repeat(1_000), '-a '.repeat(1_000), 'ü'.repeat(1_500)],
      ]
      for (const q of odd) {
        for (const prefix of [false, true]) {
          const found = foundIn(await api.get(searchPath({ q: q.toWellFormed(), prefix })))
          assert.ok(found.articles.length <= 20 && found.articlesCount >= found.articles.length)
        }
      }
      for (const text of odd) {
        expectOneOf(await api.get(searchPath({ q: 'word', tag: text.toWellFormed() })), [200, 400, 422])
        expectOneOf(await api.get(searchPath({ q: 'word', author: text.toWellFormed() })), [200, 400, 422])
      }
    })

    it('hides no article of that name', async () => {
      const author = await api.person()
      for (const title of ['search', 'Search!', 'feed']) {
        const { slug } = await api.article(author, { title })
        assert.equal(expectBody(await api.get(articlePath(slug))).article.title, title)
        const other = await api.article(author)
        const { article } = expectBody(await api.put(articlePath(other.slug), { article: { title } }, author.token))
        assert.equal(expectBody(await api.get(articlePath(article.slug))).article.title, title)
        for (const one of [slug, article.slug]) expectBody(await api.remove(articlePath(one), author.token), 204)
      }
    })
  })
}
