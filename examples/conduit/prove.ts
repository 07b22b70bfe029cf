import { type Client, defineProof, type ProofUser } from 'rung/prove'

interface Reader {
  headers: { authorization: string }
  username: string
  slugs: string[]
  /** Of the next one, who is told of comments. */
  others: string[]
}

const people = 5
const articlesOfEach = 2

/** What `rung prove` tries out: profiles and articles that are replaced, comments that are added, articles that are written once. */
export default defineProof<Reader>({
  async users(client) {
    const all = Array.from({ length: people }, async (_, n): Promise<Reader> => {
      const one = { username: `reader${n}`, email: `reader${n}@example.com`, password: 'reads a lot' }
      const { user } = await client.post<{ user: { token: string } }>('/api/users', { user: one })
      return { headers: { authorization: `Token ${user.token}` }, username: one.username, slugs: [], others: [] }
    })
    const users = await Promise.all(all)
    for (const reader of users) {
      const signedIn = client.as(reader)
      for (let n = 0; n < articlesOfEach; n += 1) {
        const article = {
          title: `Article ${n} of ${reader.username}`,
          description: 'a proof',
          body: 'new',
          tagList: ['proof'],
        }
        const made = await signedIn.post<{ article: { slug: string } }>('/api/articles', { article })
        reader.slugs.push(made.article.slug)
      }
    }
    for (const [n, reader] of users.entries()) reader.others = users[(n + 1) % users.length]!.slugs
    return users
  },

  registers: [
    {
      name: 'text of the article',
      keys: ({ slugs }) => slugs,
      write: (client, slug, body) => client.put(`/api/articles/${slug}`, { article: { body } }),
      read: async (client, slug) =>
        (await client.get<{ article: { body: string } }>(`/api/articles/${slug}`)).article.body,
    },
    {
      name: 'profile of',
      keys: ({ username }) => [username],
      write: (client, _username, bio) => client.put('/api/user', { user: { bio } }),
      read: async (client, username) =>
        (await client.get<{ profile: { bio: string } }>(`/api/profiles/${username}`)).profile.bio,
    },
  ],

  collections: [
    {
      name: 'comments on',
      keys: ({ slugs }) => slugs.slice(0, 1),
      add: (client, slug, body) => client.post(`/api/articles/${slug}/comments`, { comment: { body } }),
      list: async (client, slug) => (await commentsOn(client, slug)).map(({ body }) => body),
    },
  ],

  once: [
    {
      name: 'an article',
      send: (client, id) => client.post('/api/articles', { article: { title: id, description: 'once', body: 'once' } }),
      async effects(client) {
        const titles: string[] = []
        const pageOf = (offset: number) =>
          client.get<{ articles: { title: string }[] }>(
            `/api/articles?author=${client.user.username}&limit=100&offset=${offset}`,
          )
        for (let page = await pageOf(0); page.articles.length > 0; page = await pageOf(titles.length))
          titles.push(...page.articles.map(({ title }) => title))
        return titles
      },
    },
  ],

  queue: {
    name: 'notifications of comments',
    publish: (client, body) => client.post(`/api/articles/${client.user.others[1]}/comments`, { comment: { body } }),
    async effects(client) {
      const texts = new Map((await commentsOn(client, client.user.slugs[1]!)).map(({ id, body }) => [id, body]))
      const told: string[] = []
      for (let offset = 0; ; ) {
        const { notifications } = await client.get<{ notifications: { commentId: number | null }[] }>(
          `/api/notifications?limit=100&offset=${offset}`,
        )
        if (notifications.length === 0) return told
        offset += notifications.length
        told.push(...notifications.flatMap(({ commentId }) => texts.get(commentId ?? 0) ?? []))
      }
    },
  },

  pages: ['/api/tags', '/api/articles?limit=20', '/'],
})

async function commentsOn(client: Client<ProofUser>, slug: string): Promise<{ id: number; body: string }[]> {
  return (await client.get<{ comments: { id: number; body: string }[] }>(`/api/articles/${slug}/comments`)).comments
}
