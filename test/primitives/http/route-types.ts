import { Type } from 'typebox'
import { type CallHandlers, defineCalls } from '../../../src/app/calls.ts'
import type { Cache } from '../../../src/primitives/cache/cache.ts'
import { defineKey } from '../../../src/primitives/cache/keys.ts'
import type { Http } from '../../../src/primitives/http/contract.ts'

const Note = Type.Object({ id: Type.Integer(), tags: Type.Array(Type.String()) })
const byId = defineKey<{ id: number; tags: string[] }, [id: number]>('note')

/** Checked by the compiler, with `npm run check`; nothing of it is run. */
export function routes(http: Http, cache: Cache): unknown {
  const find = (id: number) => cache.get(byId(id), { ttl: '1m', tags: [] }, async () => ({ id, tags: ['a'] }))
  // A value of the cache is frozen, and may be returned as it is.
  http.get('/note', { schema: { response: { 200: Note } } }, () => find(1))
  http.get('/notes', { schema: { response: { 200: Type.Array(Note) } } }, async (_request, reply) =>
    reply.send([await find(1)]),
  )
  // @ts-expect-error tags are texts
  http.get('/wrong', { schema: { response: { 200: Note } } }, async () => ({ id: 1, tags: [1] }))

  const Login = Type.Object({ email: Type.String(), age: Type.Integer() })
  http.post('/login', { schema: { body: Login }, config: { login: ({ body }) => body.email } }, async () => 1)
  // @ts-expect-error the body has no such field
  http.post('/login', { schema: { body: Login }, config: { login: ({ body }) => body.name } }, async () => 1)
  // @ts-expect-error a number is no name of an account
  http.post('/login', { schema: { body: Login }, config: { login: ({ body }) => body.age } }, async () => 1)

  const contract = defineCalls('notes', { find: { input: Type.Object({ id: Type.Integer() }), output: Note } })
  const handlers: CallHandlers<typeof contract> = { find: ({ id }) => find(id) }
  return handlers
}
