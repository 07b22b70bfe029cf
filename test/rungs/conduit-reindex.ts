import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { until } from '../support/process.ts'
import type { Scene } from './conduit-extended.ts'
import { foundIn, searchPath, uniqueWord } from './conduit-search.ts'

export function reindexTests({ api, query, tick }: Scene): void {
  const found = async (q: string) =>
    foundIn(await api.get(searchPath({ q }))).articles.map(({ author }) => author.username)

  describe('articles from before the search', () => {
    it('come into it once, beside those that are written meanwhile', async () => {
      const author = await api.person()
      const [old, late, deleted] = [uniqueWord(), uniqueWord(), uniqueWord()]
      const write = (word: string) =>
        query(
          `insert into articles.article (slug, author_id, title, description, body)
          select $1, id, $1, 'D', 'B' from identity.account where username = $2`,
          [word, author.username],
        )
      await write(old)
      await write(deleted)
      await query('delete from articles.index_fill')
      await tick('reindex')
      const [, ...words] = await Promise.all([
        api.call('DELETE', `/articles/${deleted}`, { token: author.token }),
        ...Array.from({ length: 20 }, async () => {
          const word = uniqueWord()
          await api.article(author, { title: word })
          return word
        }),
      ])
      await until(async () => (await query('select from articles.index_fill')).length === 1, 'the index is filled')
      for (const word of [old, ...words]) assert.deepEqual(await found(word), [author.username], word)
      assert.deepEqual(await found(deleted), [])

      await write(late)
      await tick('reindex')
      await until(
        async () => (await query("select from rung.job where name = 'articles.reindex'")).length === 0,
        'the job has ended',
      )
      assert.deepEqual(await found(late), [])
    })

    it('stay out of it where a seed was told so', async () => {
      const author = await api.person()
      const word = uniqueWord()
      await until(async () => (await query('select from articles.index_fill')).length === 1, 'the index is filled')
      await query('update articles.index_fill set filled_at = null')
      await query(
        `insert into articles.article (slug, author_id, title, description, body)
          select $1, id, $1, 'D', 'B' from identity.account where username = $2`,
        [word, author.username],
      )
      await tick('reindex')
      await until(
        async () => (await query("select from rung.job where name = 'articles.reindex'")).length === 0,
        'the job has ended',
      )
      assert.deepEqual(await found(word), [])
    })
  })
}
