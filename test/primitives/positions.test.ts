import assert from 'node:assert/strict'
import { it } from 'node:test'
import { keysOf } from '../../src/kernel/keys.ts'
import { advance } from '../../src/kernel/position.ts'
import { currentScope } from '../../src/kernel/scope.ts'
import { createHttp } from '../../src/primitives/http/http.ts'
import { identifyBy, principalOf } from '../../src/primitives/http/principal.ts'
import type { PositionRecords } from '../../src/primitives/positions/contract.ts'
import { memoryPositions } from '../../src/primitives/positions/memory.ts'
import { carryPositions } from '../../src/primitives/positions/positions.ts'
import { createLog } from '../../src/runtime/log.ts'

/** What a read in the current scope would have to cover. */
async function needed(): Promise<bigint | 'all' | undefined> {
  const scope = currentScope()!
  await scope.recallPosition()
  return scope.positionUnknown ? 'all' : scope.position.get('main')
}

it('a client without cookies is identified at the position of its credential, and served at that of its principal', async () => {
  const http = await createHttp({ logger: createLog('test', 'silent'), revealing: false })
  const keys = keysOf(new Uint8Array(32))
  carryPositions(http, {
    records: memoryPositions(),
    keys,
    secure: false,
    lags: true,
    readsMove: true,
    trouble: assert.fail,
  })
  let identifiedAt: unknown
  identifyBy(http, async () => {
    identifiedAt = await needed()
    return { id: 'anna' }
  })
  http.get('/', async (request) => {
    await principalOf(request)
    return String(await needed())
  })
  http.post('/:place', async (request) => {
    await principalOf(request)
    const scope = currentScope()!
    scope.wrote = true
    scope.position = advance(scope.position, 'main', BigInt((request.params as { place: string }).place))
    return ''
  })
  const send = async (method: 'GET' | 'POST', url: string, authorization: string) => {
    const { body } = await http.inject({ method, url, headers: { authorization } })
    return { identifiedAt: String(identifiedAt), servedAt: body }
  }

  assert.deepEqual(await send('GET', '/', 'phone'), { identifiedAt: 'all', servedAt: 'all' })
  await send('POST', '/7', 'phone')
  assert.deepEqual(await send('GET', '/', 'phone'), { identifiedAt: '7', servedAt: '7' })
  assert.deepEqual(await send('GET', '/', 'laptop'), { identifiedAt: 'all', servedAt: '7' })
  await send('POST', '/9', 'laptop')
  assert.deepEqual(await send('GET', '/', 'phone'), { identifiedAt: '7', servedAt: '9' })
  await http.close()
})

it('a session that only reads carries its position where processes may show different times, each position once', async () => {
  let finds = 0
  let puts = 0
  const memory = memoryPositions()
  const records: PositionRecords = {
    find(owner) {
      finds += 1
      return memory.find(owner)
    },
    put(owner, position) {
      puts += 1
      return memory.put(owner, position)
    },
  }
  async function open(readsMove: boolean) {
    const http = await createHttp({ logger: createLog('test', 'silent'), revealing: false })
    const keys = keysOf(new Uint8Array(32))
    carryPositions(http, { records, keys, secure: false, lags: false, readsMove, trouble: assert.fail })
    identifyBy(http, async ({ headers }) => (headers.authorization === undefined ? undefined : { id: 'anna' }))
    http.get('/:place', async (request, reply) => {
      const { place } = request.params as { place: string }
      const before = String(await needed())
      const scope = currentScope()!
      scope.position = advance(scope.position, 'main', BigInt(place))
      if ('for-all' in (request.query as object)) reply.header('cache-control', 'public, no-cache')
      return before
    })
    return http
  }
  async function read(http: Awaited<ReturnType<typeof open>>, url: string, headers: Record<string, string> = {}) {
    const { body, headers: answered } = await http.inject({ method: 'GET', url, headers })
    const cookie = String(answered['set-cookie'] ?? '').split(';')[0]!
    return { before: body, cookie }
  }
  const http = await open(true)
  const { cookie } = await read(http, '/7')
  assert.match(cookie, /^rung-seen=/)
  assert.deepEqual(await read(http, '/7', { cookie }), { before: '7', cookie: '' })
  const { cookie: next } = await read(http, '/9', { cookie })
  assert.equal((await read(http, '/7', { cookie: next })).before, '9')
  assert.equal((await read(http, '/11?for-all', { cookie })).cookie, '', 'it may be kept for others')
  assert.equal(finds, 0)

  const authorization = 'phone'
  assert.equal((await read(http, '/7', { authorization })).before, 'undefined')
  assert.equal(puts, 2, 'by principal, and by credential')
  assert.equal((await read(http, '/7', { authorization })).before, '7')
  assert.equal(puts, 2, 'the record has it')
  await read(http, '/8', { authorization })
  assert.equal((await read(http, '/8', { authorization: 'laptop' })).before, '8')
  await http.close()

  const alone = await open(false)
  assert.equal((await read(alone, '/7')).cookie, '')
  await alone.close()
})
