import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inThread } from '../../src/kernel/threads.ts'

const module = new URL('../support/compute.ts', import.meta.url)

test('a function of another file is called in a thread, with copies', async () => {
  const compute = inThread<{ double: number }, number>(module)
  assert.deepEqual(await Promise.all([1, 2, 3].map((n) => compute({ double: n }))), [2, 4, 6])
})

test('what never ends is ended, and others go on', async () => {
  const compute = inThread<unknown, number>(module, { timeout: '1s', threads: 1 })
  const [endless, after] = await Promise.allSettled([compute({ endless: true }), compute({ double: 4 })])
  assert.equal(endless.status === 'rejected' && endless.reason.code, 'THREAD_TIMEOUT')
  assert.equal(after.status === 'fulfilled' && after.value, 8)
})

test('no more wait than may', async () => {
  const compute = inThread<unknown, number>(module, { timeout: '1m', threads: 1, waitingMax: 1 })
  const results = await Promise.allSettled([1, 2, 3].map((double) => compute({ double })))
  assert.deepEqual(
    results.map((one) => (one.status === 'fulfilled' ? one.value : one.reason.code)),
    [2, 4, 'THREAD_BUSY'],
  )
})

test('small ones go before large ones, and of too many the largest is refused', async () => {
  const compute = inThread<{ double: number }, number>(module, {
    timeout: '1m',
    threads: 1,
    waitingMax: 2,
    costOf: ({ double }) => double,
  })
  const order: number[] = []
  const one = (double: number) =>
    compute({ double }).then(
      () => order.push(double),
      ({ code }) => order.push(-double) && assert.equal(code, 'THREAD_BUSY'),
    )
  await Promise.all([50, 40, 30, 20].map(one)) // the first one runs
  assert.deepEqual(order, [-40, 50, 20, 30])
})

test('whatever goes wrong in it is an error of that call alone', async () => {
  const compute = inThread<unknown, number>(module, { timeout: '1m', threads: 1 })
  for (const input of [
    { throws: 'undefined' },
    { throws: 'proxy' },
    { throws: 'error' },
    { exits: true },
    { memory: true },
    { returns: true },
    () => 1,
  ])
    await assert.rejects(compute(input))
  assert.equal(await compute({ double: 5 }), 10)
  await assert.rejects(inThread(new URL('./no-such-file.ts', import.meta.url))(1), /no-such-file/)
})
