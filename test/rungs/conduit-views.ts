import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { until } from '../support/process.ts'
import { articlePath, expectBody, expectErrors, type Person } from './conduit-client.ts'
import type { Scene } from './conduit-extended.ts'

interface Views {
  total: number
  days: { day: string; count: number }[]
}

export function viewTests(scene: Scene): void {
  const { api } = scene
  const viewsOf = async (author: Person, slug: string, query = '') =>
    (expectBody(await api.get(`${articlePath(slug)}/views${query}`, author.token)) as never as { views: Views }).views
  const view = async (slug: string, reader?: Person) =>
    void expectBody(await api.post(`${articlePath(slug)}/views`, undefined, reader?.token), 204)
  const counted = (author: Person, slug: string, total: number) =>
    until(async () => {
      const views = await viewsOf(author, slug)
      assert.ok(views.total <= total, `${views.total} of ${total}`)
      return views.total === total && views
    }, `${total} views are counted`)

  describe('views', () => {
    it('are counted when a page reports them, except for those of the author', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      assert.deepEqual(await viewsOf(author, slug), { total: 0, days: [] })
      await view(slug, author)
      await Promise.all(Array.from({ length: 40 }, (_, n) => view(slug, n % 2 ? reader : undefined)))
      await api.get(articlePath(slug))
      expectErrors(await api.post(`${articlePath(slug)}x/views`), 404, { article: ['not found'] })
      const { days } = await counted(author, slug, 40)
      assert.equal(
        days.reduce((sum, { count }) => sum + count, 0),
        40,
      )
      for (let n = 0; n < 3; n += 1) await view(slug)
      await counted(author, slug, 43)
      const today = new Date().toISOString().slice(0, 10)
      assert.ok(days.every(({ day }) => day <= today))
    })

    it('of many readers are published in few events', async () => {
      const author = await api.person()
      const articles = await Promise.all(Array.from({ length: 5 }, () => api.article(author)))
      const seen = async () => {
        const [row] = await scene.query<{ last: number }>('select last_value::int as last from rung.job_id_seq')
        return row!.last
      }
      const before = await seen()
      for (let round = 0; round < 20; round += 1) {
        await Promise.all(articles.map(({ slug }) => view(slug)))
      }
      for (const { slug } of articles) await counted(author, slug, 20)
      assert.ok((await seen()) - before < 20, `${(await seen()) - before} rows for 100 views`)
    })

    it('are listed by day, the newest first', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      await scene.query(
        `insert into articles.view_day select id, date '2026-01-01' + n, n + 1 from articles.article, generate_series(0, 9) n
          where slug = $1`,
        [slug],
      )
      assert.deepEqual(await viewsOf(author, slug, '?days=2'), {
        total: 55,
        days: [
          { day: '2026-01-10', count: 10 },
          { day: '2026-01-09', count: 9 },
        ],
      })
      expectBody(await api.get(`${articlePath(slug)}/views?days=0`, author.token), 422)
    })

    it('can be read by the author only', async () => {
      const [author, other] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      const path = `${articlePath(slug)}/views`
      expectErrors(await api.get(path), 401, { token: ['is missing'] })
      expectErrors(await api.get(path, other.token), 403, { article: ['forbidden'] })
      expectErrors(await api.get(`${articlePath(`${slug}x`)}/views`, author.token), 404, { article: ['not found'] })
    })

    it('of an article are deleted with it', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      await view(slug)
      expectBody(await api.remove(articlePath(slug), author.token), 204)
      const other = await api.article(author)
      await view(other.slug)
      await counted(author, other.slug, 1)
      const orphans = await scene.query(
        'select from articles.view_day where not exists (select from articles.article where id = article_id)',
      )
      assert.deepEqual(orphans, [])
    })
  })
}
