import { defineApp, defineModule, handle } from 'rung'
import { accepted } from './accepted.ts'
import { stock } from './classes.ts'
import { disk } from './disk.ts'
import { purge } from './job.ts'
import { libraries } from './libraries.js'
import { memos } from './memos.ts'
import * as shared from './shared.ts'
import { build, counter, names, register, total } from './variables.ts'

register('first')

/** A factory whose state lives as long as the process, since it is called once. */
function limiter(max: number) {
  const hits = new Map<string, number>() // found: state
  const perCall: string[] = []
  for (const one of [max]) perCall.push(String(one))
  return {
    allows(key: string) {
      hits.set(key, (hits.get(key) ?? 0) + 1)
      return hits.get(key)! <= max
    },
  }
}

/** Called in requests too, but what it gathers is its caller's. */
function collect(texts: readonly string[]) {
  const found: string[] = []
  const add = (text: string) => found.push(text)
  for (const text of texts) add(text)
  return found
}
const collected = collect(['a'])

export const shop = defineModule({
  name: 'shop',
  owner: 'tests',
  routes(http) {
    const counts = new Map<string, number>() // found: state
    const paths: string[] = []
    for (const path of ['/a', '/b']) paths.push(path)
    const limit = limiter(3)
    let last = '' // found: state
    http.get('/', async (request) => {
      const ofRequest = new Map<string, number>()
      ofRequest.set('one', 1)
      counts.set(request.url, (counts.get(request.url) ?? 0) + 1)
      last = request.url
      shared.sessions.set(request.id, request.url)
      return {
        last,
        paths,
        collected,
        allowed: limit.allows(request.ip),
        more: collect([request.url]),
        names,
        n: counter(),
        total,
        built: build(),
      }
    })
    setInterval(() => purge(), 1_000) // found: timer
    setTimeout(() => purge(), 1_000) // found: timer
    http.get('/wait', async () => new Promise((resolve) => setTimeout(resolve, 1)))
    disk(http)
    libraries(http)
    http.get('/stock', async () => ({ stock: stock.take('a'), memos: await memos('a'), accepted: accepted('a') }))
  },
  work: () => [handle(purge as never, () => shared.forget())],
})
export default defineApp({ name: 'planted', modules: [shop] })
