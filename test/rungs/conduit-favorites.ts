import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { articlePath, type Conduit, expectBody, expectErrors, unique } from './conduit-client.ts'
import { expectArticle } from './conduit-shapes.ts'

export function favoriteTests(api: Conduit): void {
  const read = async (slug: string, token?: string) => {
    const { article } = expectBody(await api.get(articlePath(slug), token))
    return [article.favorited, article.favoritesCount]
  }

  describe('favorites', () => {
    it('are counted once for each user, and shown to each their own', async () => {
      const [author, one, two] = [await api.person(), await api.person(), await api.person()]
      const article = await api.article(author, { tagList: [unique('tag')] })
      const { slug } = article
      const steps = [
        [api.favorite, one, true, 1],
        [api.favorite, one, true, 1],
        [api.favorite, two, true, 2],
        [api.favorite, author, true, 3],
        [api.unfavorite, one, false, 2],
        [api.unfavorite, one, false, 2],
        [api.favorite, one, true, 3],
        [api.unfavorite, two, false, 2],
        [api.unfavorite, author, false, 1],
        [api.unfavorite, one, false, 0],
        [api.unfavorite, one, false, 0],
      ] as const
      const fans = new Set<string>()
      for (const [change, who, favorited, favoritesCount] of steps) {
        const answer = expectBody(await change(who, slug)).article
        expectArticle(answer)
        assert.deepEqual(answer, { ...article, favorited, favoritesCount, updatedAt: answer.updatedAt })
        if (favorited) fans.add(who.token)
        else fans.delete(who.token)
        assert.deepEqual(await read(slug), [false, favoritesCount])
        for (const { token, username } of [author, one, two]) {
          assert.deepEqual(await read(slug, token), [fans.has(token), favoritesCount])
          const [item] = (await api.list({ author: author.username }, token)).articles
          assert.deepEqual([item?.favorited, item?.favoritesCount], [fans.has(token), favoritesCount])
          assert.equal((await api.list({ favorited: username })).articlesCount, fans.has(token) ? 1 : 0)
        }
      }
    })

    it('are counted exactly when many come at the same time', async () => {
      const [author, ...fans] = await Promise.all(Array.from({ length: 9 }, () => api.person()))
      const { slug } = await api.article(author!)
      const both = [...fans, ...fans]
      for (const answer of await Promise.all(both.map((fan) => api.favorite(fan, slug)))) {
        assert.equal(expectBody(answer).article.favorited, true)
      }
      assert.deepEqual(await read(slug), [false, fans.length])
      for (const answer of await Promise.all(both.map((fan) => api.unfavorite(fan, slug)))) {
        assert.equal(expectBody(answer).article.favorited, false)
      }
      assert.deepEqual(await read(slug), [false, 0])
    })

    it('of no article are not found', async () => {
      const person = await api.person()
      const slug = unique('no-such-article')
      expectErrors(await api.favorite(person, slug), 404, { article: ['not found'] })
      expectErrors(await api.unfavorite(person, slug), 404, { article: ['not found'] })
    })
  })
}

export function tagTests(api: Conduit): void {
  const tagsInUse = async (token?: string) => expectBody(await api.get('/tags', token)).tags

  describe('tags', () => {
    it('are all listed, each once', async () => {
      const author = await api.person()
      const tags = Array.from({ length: 30 }, (_, index) => unique(`tag${index}`))
      for (let from = 0; from < tags.length; from += 10) {
        await api.article(author, { tagList: tags.slice(from, from + 10) })
      }
      await api.article(author, { tagList: tags.slice(5, 25) })
      for (const token of [undefined, author.token]) {
        const listed = await tagsInUse(token)
        assert.ok(listed.every((tag) => typeof tag === 'string'))
        assert.deepEqual(listed.filter((tag) => tags.includes(tag)).sort(), tags.toSorted())
      }
    })

    it('are listed as long as an article uses them', async () => {
      const author = await api.person()
      const tag = unique('tag')
      const [one, two] = [await api.article(author, { tagList: [tag] }), await api.article(author, { tagList: [tag] })]
      const third = await api.article(author, { tagList: [unique('other'), tag] })
      expectBody(await api.remove(articlePath(one.slug), author.token), 204)
      assert.ok((await tagsInUse()).includes(tag), 'two articles left')
      expectBody(await api.put(articlePath(two.slug), { article: { tagList: [] } }, author.token))
      assert.ok((await tagsInUse()).includes(tag), 'one article left')
      expectBody(await api.put(articlePath(third.slug), { article: { tagList: [unique('new')] } }, author.token))
      assert.ok(!(await tagsInUse()).includes(tag), 'no article left')
      expectBody(await api.put(articlePath(two.slug), { article: { tagList: [tag] } }, author.token))
      assert.ok((await tagsInUse()).includes(tag), 'in use again')
      expectBody(await api.remove(articlePath(two.slug), author.token), 204)
      assert.ok(!(await tagsInUse()).includes(tag), 'its last article deleted')
    })
  })
}
