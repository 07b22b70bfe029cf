import { defineApp, defineModule } from 'rung'

/** Signs in, and says who is. Cookies are renewed all the time. */
const club = defineModule({
  name: 'club',
  owner: 'tests',

  routes(http, { files, sessions }) {
    http.post('/sign-in', async (request, reply) => {
      await sessions.signIn(request, reply, { id: 'anna' })
      return {}
    })
    http.get('/me', async (request) => ({ me: (await sessions.of(request))?.principal ?? null, pid: process.pid }))
    http.put('/picture', async () => {
      await files.put('picture', 'a picture')
      return { url: files.url('picture', { expires: '1h' }) }
    })
  },
})

export default defineApp({ name: 'club', modules: [club], sessions: { rotate: '50ms' } })
