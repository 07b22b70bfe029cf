import { defineScenario } from '../../src/load.ts'

/** Readers of Conduit: a list, an article of it with its comments, the tags. */
export default defineScenario({
  phases: [{ seconds: 5, rate: 20 }],
  lateMsMax: 50,
  async setup(visitor) {
    const ask = () => visitor.request('GET', '/api/articles?limit=50')
    let answer = await ask()
    // After a rate above the limit the app refuses for a while.
    for (let tries = 1; tries < 20 && answer.status === 503; tries += 1) {
      await visitor.think(500)
      answer = await ask()
    }
    return answer.json<{ articles: { slug: string }[] }>().articles.map(({ slug }) => slug)
  },
  journeys: [
    {
      name: 'reader',
      weight: 3,
      async run(visitor) {
        const slug = visitor.pick(visitor.data)
        await visitor.request('GET', `/api/articles/${slug}`, { route: 'GET /api/articles/:slug' })
        await visitor.request('GET', `/api/articles/${slug}/comments`, { route: 'GET /api/articles/:slug/comments' })
      },
    },
    { name: 'list', weight: 2, run: (visitor) => visitor.request('GET', '/api/articles') },
    { name: 'tags', run: (visitor) => visitor.request('GET', '/api/tags') },
  ],
})
