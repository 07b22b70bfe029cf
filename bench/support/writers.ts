import { defineScenario } from '../../src/load.ts'

interface User {
  token: string
  slugs: readonly string[]
}

/** Readers of Conduit of whom one in three is signed in and comments: each comment changes what others read. */
export default defineScenario({
  phases: [{ seconds: 5, rate: 20 }],
  lateMsMax: 50,
  async setup(visitor): Promise<User> {
    const email = 'elena-maier-1@example.com'
    const login = () =>
      visitor.request('POST', '/api/users/login', { body: { user: { email, password: 'conduit-seed' } } })
    let answer = await login()
    // After a rate above the limit the app refuses for a while.
    for (let tries = 1; tries < 20 && answer.status === 503; tries += 1) {
      await visitor.think(500)
      answer = await login()
    }
    const { token } = answer.json<{ user: { token: string } }>().user
    const list = await visitor.request('GET', '/api/articles?limit=50')
    return { token, slugs: list.json<{ articles: { slug: string }[] }>().articles.map(({ slug }) => slug) }
  },
  journeys: [
    {
      name: 'reader',
      weight: 2,
      async run(visitor) {
        const slug = visitor.pick(visitor.data.slugs)
        await visitor.request('GET', `/api/articles/${slug}`, { route: 'GET /api/articles/:slug' })
        await visitor.request('GET', `/api/articles/${slug}/comments`, { route: 'GET /api/articles/:slug/comments' })
      },
    },
    {
      name: 'writer',
      async run(visitor) {
        const slug = visitor.pick(visitor.data.slugs)
        await visitor.request('POST', `/api/articles/${slug}/comments`, {
          ...{ route: 'POST /api/articles/:slug/comments', body: { comment: { body: 'Well said.' } } },
          headers: { authorization: `Token ${visitor.data.token}` },
        })
      },
    },
  ],
})
