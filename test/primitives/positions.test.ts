import assert from 'node:assert/strict'
import { it } from 'node:test'
import { advance } from '../../src/kernel/position.ts'
import { currentScope } from '../../src/kernel/scope.ts'
import { createHttp } from '../../src/primitives/http/http.ts'
import { identifyBy, principalOf } from '../../src/primitives/http/principal.ts'
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
  const key = new Uint8Array(32)
  carryPositions(http, { records: memoryPositions(), key, secure: false, lags: true, trouble: assert.fail })
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
