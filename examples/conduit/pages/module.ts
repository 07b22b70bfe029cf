import { defineModule, warm } from 'rung'
import { articleCalls } from '../articles/contract.ts'
import { avatarCalls } from '../avatars/contract.ts'
import { commentCalls } from '../comments/contract.ts'
import { identityCalls } from '../identity/contract.ts'
import { actions } from './actions.ts'
import { initials } from './initials.ts'
import { articlePath, pageSize } from './layout.ts'
import { showing } from './showing.ts'
import { prepare } from './visit.ts'

/**
 * What people see. Works without JavaScript. A whole page is kept for all who are not signed in, here and at the edge; for a viewer it is
 * put together from the same kept parts and from what is theirs alone.
 */
export const pages = defineModule({
  name: 'pages',
  owner: 'web',
  uses: { identity: identityCalls, articles: articleCalls, comments: commentCalls, avatars: avatarCalls },
  assets: [new URL('./assets/', import.meta.url), new URL(import.meta.resolve('rung/tokens.css'))],

  // What everybody comes by, and where they go from there.
  warm: ({ calls }) => [
    warm('front', ['/', '/login', '/register']),
    warm('newest', async () => {
      const { articles } = await calls.articles.list({ limit: pageSize, offset: 0 })
      return articles.map(({ slug }) => articlePath(slug))
    }),
  ],

  routes(http, context) {
    const visit = prepare(http, context)
    showing(http, context, visit)
    actions(http, context, visit)
    initials(http)
  },
})
