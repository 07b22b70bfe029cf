import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { outgoing, RungError } from 'rung'
import { runInScope, Scope } from '../../../src/kernel/scope.ts'

const fails =
  (message = 'no') =>
  () =>
    Promise.reject(new Error(message))
const code = (name: string) => ({ code: name })

describe('an outgoing call', () => {
  it('gives what it gets, and what it throws', async () => {
    const service = outgoing('service')
    assert.equal(await service.call(async () => 5), 5)
    await assert.rejects(service.call(fails('its own')), /its own/)
    await assert.rejects(
      service.call(() => {
        throw new Error('at once')
      }),
      /at once/,
    )
  })

  it('ends at its time, also where it does not listen', async () => {
    const service = outgoing('service', { timeout: 50 })
    let aborted = false
    const began = performance.now()
    const endless = (signal: AbortSignal) => {
      signal.addEventListener('abort', () => {
        aborted = true
      })
      return new Promise(() => {})
    }
    await assert.rejects(service.call(endless), code('OUTGOING_TIMEOUT'))
    assert.ok(aborted && performance.now() - began < 2_000)
  })

  it('has no more time than its request, and ends with it', async () => {
    const service = outgoing('service', { timeout: '1h' })
    const scope = new Scope('request', 'a', 'a')
    scope.deadlineAt = performance.now() + 50
    await assert.rejects(
      runInScope(scope, () => service.call(() => new Promise(() => {}), { idempotent: true })),
      code('OUTGOING_TIMEOUT'),
    )
    await wait(5)
    await assert.rejects(
      runInScope(scope, () => service.call(async () => 1)),
      code('OUTGOING_TIMEOUT'),
    )
    const gone = new Scope('request', 'b', 'b')
    const calling = runInScope(gone, () => service.call(() => new Promise(() => {})))
    const reason = new Error('the client is gone')
    setTimeout(() => gone.cancel(reason), 20)
    await assert.rejects(calling, reason)
  })

  it('is tried again where that does no harm, and only there', async () => {
    const service = outgoing('service')
    let tries = 0
    const third = async () => {
      tries += 1
      if (tries < 3) throw new Error('not yet')
      return tries
    }
    assert.equal(await service.call(third, { idempotent: true }), 3)
    tries = 0
    await assert.rejects(service.call(third), /not yet/)
    assert.equal(tries, 1)
  })

  it('is tried again for a share of the calls only', async () => {
    const service = outgoing('service', { retries: 3, failureThreshold: 0.9, timeout: '1m' })
    let tries = 0
    let calls = 0
    const flaky = async () => {
      tries += 1
      if (tries % 2 !== 0) throw new Error('no')
    }
    for (; calls < 100; calls += 1) await service.call(flaky, { idempotent: true }).catch(() => {})
    assert.ok(tries - calls <= 10 + calls * 0.1 + 1, `${tries - calls} further tries of ${calls} calls`)
    assert.ok(tries - calls >= 10)
  })

  it('is not made while the service fails, and made again when it has rested', async () => {
    const service = outgoing('service', { rest: 300 })
    let tries = 0
    const failing = () => {
      tries += 1
      return Promise.reject(new Error('down'))
    }
    for (let n = 0; n < 40; n += 1) await service.call(failing).catch(() => {})
    assert.ok(tries < 40, `${tries} tries`)
    await assert.rejects(
      service.call(async () => 1),
      code('OUTGOING_OPEN'),
    )
    await wait(350)
    assert.equal(await service.call(async () => 1), 1)
    assert.equal(await service.call(async () => 2), 2)
  })

  it('that its own caller gave up says nothing of the service', async () => {
    const service = outgoing('service', { rest: '1h' })
    for (let n = 0; n < 40; n += 1) {
      const scope = new Scope('request', 'a', 'a')
      const calling = runInScope(scope, () => service.call(() => new Promise(() => {})))
      await wait(0)
      scope.cancel(new Error('gone'))
      await assert.rejects(calling, /gone/)
    }
    assert.equal(await service.call(async () => 1), 1)
  })

  it('waits for its turn, and is refused where too many wait', async () => {
    const service = outgoing('service', { concurrency: 2 })
    let open = () => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    let most = 0
    let now = 0
    const held = async () => {
      now += 1
      most = Math.max(most, now)
      await gate
      now -= 1
    }
    const four = Array.from({ length: 4 }, () => service.call(held))
    await wait(20)
    await assert.rejects(service.call(held, { idempotent: true }), code('OUTGOING_FULL'))
    open()
    await Promise.all(four)
    assert.equal(most, 2)
  })

  it('with an option that makes no sense is refused', () => {
    assert.throws(() => outgoing('service', { concurrency: 0 }), code('APP_INVALID'))
    assert.throws(() => outgoing('service', { failureThreshold: 1 }), code('APP_INVALID'))
    assert.throws(() => outgoing('service', { retryBudget: 2 }), code('APP_INVALID'))
  })
})

describe('an outgoing fetch', () => {
  let server: Server
  let url = ''
  const seen: string[] = []
  before(async () => {
    server = createServer((request, response) => {
      seen.push(request.method!)
      if (request.url === '/hangs') return
      const flaky = request.url === '/flaky' && seen.length < 3
      response.statusCode = request.url === '/down' || flaky ? 503 : 200
      response.end('hello')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  after(() => {
    server.closeAllConnections()
    server.close()
  })

  it('that cannot be reached is told with the name of the service', async () => {
    const closed = createServer((request) => request.socket.destroy())
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
    const { port } = closed.address() as AddressInfo
    const bank = outgoing('bank', { retries: 0 })
    const failed = (error: RungError) => {
      assert.deepEqual([error.code, error.status], ['OUTGOING_FAILED', 502])
      assert.match(error.message, /^The call to bank failed: \S/)
      return error.cause instanceof TypeError
    }
    const pay = () => bank.fetch(`http://localhost:${port}`, { method: 'POST' })
    await assert.rejects(pay(), failed)
    await new Promise((resolve) => closed.close(resolve))
    for (const call of [
      pay,
      () => bank.fetch(`http://127.0.0.1:${port}`),
      () => bank.call(() => fetch(`http://localhost:${port}`)),
    ])
      await assert.rejects(call(), failed)
    const own = new RungError('DATA_UNAVAILABLE', 'x', {
      cause: Object.assign(new Error('x'), { code: 'ECONNREFUSED' }),
    })
    await assert.rejects(
      bank.call(() => Promise.reject(own)),
      own,
    )
    await assert.rejects(bank.fetch('nowhere'), /Failed to parse URL/)
    await assert.rejects(bank.fetch(url, { signal: AbortSignal.abort() }), { name: 'AbortError' })
  })

  it('repeats a GET, and no POST', async () => {
    const service = outgoing('service')
    seen.length = 0
    assert.equal((await service.fetch(`${url}/flaky`)).status, 200)
    assert.equal(seen.length, 3)
    seen.length = 0
    const answer = await service.fetch(`${url}/down`, { method: 'POST', body: 'x' })
    assert.deepEqual([answer.status, await answer.text()], [503, 'hello'])
    assert.equal(seen.length, 1)
  })

  it('ends at its time', async () => {
    await assert.rejects(
      outgoing('service', { timeout: 50 }).fetch(`${url}/hangs`, { method: 'POST' }),
      code('OUTGOING_TIMEOUT'),
    )
  })
})
