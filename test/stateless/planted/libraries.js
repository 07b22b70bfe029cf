// @ts-nocheck: the packages are not installed; only their names matter
import fastifySession, { MemoryStore } from '@fastify/session'
import { Cron } from 'croner'
import session from 'express-session'
import cron from 'node-cron'

const options = { secret: 'x' }

export function libraries(http) {
  http.register(fastifySession, { secret: 'x' }) // found: sessions
  http.register(fastifySession, { secret: 'x', store: new MemoryStore() }) // found: sessions
  http.register(fastifySession, { secret: 'x', store: redisStore() })
  http.use(session(options)) // found: sessions
  http.use(session({ ...options }))
  cron.schedule('* * * * *', () => {}) // found: timer
  new Cron('* * * * *', () => {}) // found: timer
}

function redisStore() {
  return {}
}
