import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify from 'fastify'
import type { Http } from '../../../src/primitives/http/contract.ts'
import { tellEdge } from '../../../src/primitives/http/edge-terms.ts'

const asEdge = { url: '/-/edge/state', headers: { authorization: 'Bearer the-secret' } }

async function termsOf(shedding?: object): Promise<{ terms: string[]; took: unknown }> {
  const http = Fastify() as unknown as Http
  tellEdge(http, 'the-secret', shedding)
  http.get('/feed', { config: { priority: 'sheddable' } }, async () => 'x')
  http.get('/plain', async () => 'x')
  http.get('/feed/:id', { config: { priority: 'sheddable' } }, async () => 'x')
  http.get('/feed/mine', async () => 'x')
  http.post('/pay/:id', { config: { priority: 'critical', idempotency: 'required' } }, async () => 'x')
  http.get('/readyz', { config: { system: true } }, async () => 'x')
  const { headers } = await http.inject('/plain')
  const { payload, statusCode } = await http.inject(asEdge)
  assert.equal(statusCode, 200)
  assert.equal((await http.inject({ url: asEdge.url })).statusCode, 401)
  await http.close()
  return { terms: payload.split('\n').filter((line) => !line.startsWith('refusal ')), took: headers['x-rung-took'] }
}

test('the edge is told which routes are refused earlier or later than others, and how long requests may wait', async () => {
  const { terms, took } = await termsOf({ delayMax: '1s' })
  for (const line of [
    'shedding 200',
    'share 0.25 GET /feed',
    'share 4 POST /pay/:id',
    'keyed POST /pay/:id',
    'share 1 GET /readyz',
  ])
    assert.ok(terms.includes(line), line)
  assert.ok(terms.indexOf('share 1 GET /feed/mine') < terms.indexOf('share 0.25 GET /feed/:id'), 'as the app matches')
  assert.match(String(took), /^\d+$/)
})

test('an app that sheds nothing has no edge that does', async () => {
  const { terms, took } = await termsOf()
  assert.ok(!terms.some((line) => line.startsWith('shedding ')))
  assert.equal(took, undefined)
})
