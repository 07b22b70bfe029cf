import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { currentScope, type OpenData, openData, requestScopes } from 'rung'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'

/** A Fastify app that exists already takes the data primitive, without becoming a Rung app. */
describe('mounted in a Fastify app', () => {
  let postgres: TestPostgres
  let opened: OpenData
  let app: FastifyInstance
  before(async () => {
    postgres = await testPostgres()
    opened = await openData({
      name: 'legacy',
      modules: [{ name: 'stock', migrations: new URL('../support/apps/shop/stock/migrations/', import.meta.url) }],
      env: { DATABASE_URL: urlOf(await postgres.createDatabase()), NODE_ENV: 'test', LOG_LEVEL: 'silent' },
    })
    app = Fastify()
    requestScopes(app)
    const data = opened.data('stock')
    app.post('/items/:id', async (request) => {
      const { id } = request.params as { id: number }
      await data.write((tx) => tx`insert into stock.item (id, n) values (${id}, 1)`)
      return { scope: currentScope()?.id, position: currentScope()?.position.has('main') }
    })
    app.addHook('onClose', () => opened.close())
  })
  after(async () => {
    await app?.close()
    await postgres?.stop()
  })

  it('has scopes, positions and transactions', async () => {
    const answer = await app.inject({ method: 'POST', url: '/items/1', headers: { 'x-request-id': 'mine' } })
    assert.deepEqual(answer.json(), { scope: 'mine', position: true })
    assert.equal(answer.headers['x-request-id'], 'mine')
  })
})
