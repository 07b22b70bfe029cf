import { defineApp, defineKey, defineModule, RungError } from 'rung'
import { Type } from 'typebox'

interface Article {
  id: number
  slug: string
  title: string
}

const bySlug = defineKey<Article | null, [slug: string]>('article-by-slug')
const tagsOf = defineKey<string[], [article: number]>('tags-of')

const articles = defineModule({
  name: 'articles',
  owner: 'editors',
  migrations: new URL('./migrations/', import.meta.url),

  routes(http, { data, cache }) {
    const find = (slug: string) =>
      cache.get(
        bySlug(slug),
        { ttl: '10m', grace: '1h', tags: (found) => (found ? [`article:${found.id}`] : ['new-article']) },
        async () => {
          const [row] = await data.read((sql) => sql<Article>`select * from articles.article where slug = ${slug}`)
          return row ?? null
        },
      )

    const tagsOfAll = (ids: readonly number[]) =>
      cache.getMany(ids, { key: tagsOf, ttl: '10m', tags: (id) => [`article:${id}`] }, async (missing) => {
        const rows = await data.read(
          (sql) => sql<{ article: number; name: string }>`
              select article, name from articles.tag where article = any(${missing}) order by name`,
        )
        return missing.map((id) => rows.filter(({ article }) => article === id).map(({ name }) => name))
      })

    http.get('/articles/:slug', { schema: { params: Type.Object({ slug: Type.String() }) } }, async (request) => {
      const article = await find(request.params.slug)
      if (!article) throw new RungError('HTTP_NOT_FOUND', 'There is no such article.')
      const [tags] = await tagsOfAll([article.id])
      return { ...article, tags }
    })

    http.put(
      '/articles/:slug',
      { schema: { params: Type.Object({ slug: Type.String() }), body: Type.Object({ title: Type.String() }) } },
      async ({ params: { slug }, body: { title } }) =>
        data.write(async (tx) => {
          const [row] = await tx<{ id: number }>`
            insert into articles.article (slug, title) values (${slug}, ${title})
            on conflict (slug) do update set title = excluded.title returning id`
          tx.invalidate([`article:${row!.id}`, 'new-article', 'titles'])
          return row
        }),
    )

    // The whole answer is kept for readers who are not signed in.
    http.get('/titles', { config: { cache: { ttl: '1m', grace: '10m', tags: ['titles'] } } }, () =>
      data.read((sql) => sql`select slug, title from articles.article order by id desc limit 20`),
    )
  },
})

export default defineApp({ name: 'magazine', modules: [articles] })
