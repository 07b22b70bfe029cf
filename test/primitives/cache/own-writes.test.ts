import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'
import { openScratch } from '../../support/process.ts'
import { noRedis, type TestRedis, testRedis } from '../../support/redis.ts'

const app = fileURLToPath(new URL('../../support/apps/articles/app.ts', import.meta.url))
const sessions = 8
const pairsEach = 50
const articlesEach = 10

/** Nothing stands in front of them, so whoever asks says which of them answers; `bench/cache.ts` does it 100,000 times. */
describe('two web processes', { skip: noRedis }, () => {
  let postgres: TestPostgres
  let redis: TestRedis
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let urls: string[]
  before(async () => {
    postgres = await testPostgres()
    redis = await testRedis()
    scratch = await openScratch()
    const env = {
      NODE_ENV: 'test',
      RUNG_TOPOLOGY: '10k',
      RUNG_ROLE: 'web',
      RUNG_SECRET: 'the same for both: each believes what the other has signed',
      RUNG_REDIS_URL: redis.url,
      DATABASE_URL: urlOf(await postgres.createDatabase()),
      PORT: '0',
    }
    urls = [(await scratch.start({ app, env })).url, (await scratch.start({ app, env })).url]
  })
  after(async () => {
    await scratch?.end()
    await redis.stop()
    await postgres.stop()
  })

  /** Keeps the cookie that it is given, as browsers do. */
  function browser() {
    let cookie = ''
    return async (url: string, title?: string): Promise<{ title: string }> => {
      const written = title === undefined ? {} : { method: 'PUT', body: JSON.stringify({ title }) }
      const headers = { cookie, 'content-type': 'application/json' }
      const answer = await fetch(url, { ...written, headers: title === undefined ? { cookie } : headers })
      assert.equal(answer.status, 200, await answer.clone().text())
      cookie = answer.headers.getSetCookie()[0]?.split(';')[0] ?? cookie
      return answer.json() as Promise<{ title: string }>
    }
  }

  it('who writes at one sees it at the other, which has what was before in its memory', async () => {
    async function session(number: number): Promise<number> {
      const ask = browser()
      let stale = 0
      for (let turn = 0; turn < pairsEach; turn += 1) {
        const path = `/articles/${number}-${turn % articlesEach}`
        const [from, to] = [urls[turn % 2]!, urls[1 - (turn % 2)]!]
        await ask(from + path, `${turn}`)
        if ((await ask(to + path)).title !== `${turn}`) stale += 1
      }
      return stale
    }
    const stale = await Promise.all(Array.from({ length: sessions }, (_, number) => session(number)))
    assert.deepEqual(stale, new Array(sessions).fill(0), `of ${pairsEach} each`)
  })
})
