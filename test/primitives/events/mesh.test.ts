import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { drainLogs } from '../../../src/primitives/events/mesh.ts'
import { type MeshUnderTest, openMesh } from '../../support/mesh.ts'
import { deleteStream } from '../../support/mesh-kills.ts'
import { noNats, type TestNats, testNats } from '../../support/nats.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, at) => first + at)

describe('events over a broker', { skip: noNats }, () => {
  let postgres: TestPostgres
  let nats: TestNats
  let mesh: MeshUnderTest
  before(async () => {
    postgres = await testPostgres()
    nats = await testNats()
  })
  after(async () => {
    await nats.stop()
    await postgres.stop()
  })
  beforeEach(async () => {
    mesh = await openMesh(postgres, nats)
    await mesh.subscribe('group')
  })
  afterEach(() => mesh.close())

  /** Until events come by the broker: the first may be read. */
  async function warmUp(): Promise<number> {
    for (let n = 1; ; n += 1) {
      await mesh.publish(-n)
      await mesh.deliveries('group', n)
      if (!mesh.read.includes(-n)) return n
    }
  }

  it('come by the broker, not by reading the log', async () => {
    await mesh.start()
    const before = await warmUp()
    for (const n of upTo(20)) await mesh.publish(n)
    assert.deepEqual((await mesh.deliveries('group', before + 20)).slice(before), upTo(20))
    // One that a look at the log met on its way may have been read.
    assert.ok(mesh.read.filter((n) => n > 0).length < 20)
  })

  it('are published, and reach their groups, while the broker hangs; afterwards it carries them again', async () => {
    await mesh.start()
    let count = await warmUp()
    nats.hang()
    for (const n of upTo(20)) await mesh.publish(n)
    assert.deepEqual((await mesh.deliveries('group', count + 20)).slice(count), upTo(20))
    await until(async () => mesh.troubles.includes('broker-failed'), 'it is told')
    nats.goOn()
    await until(async () => mesh.troubles.at(-1) === 'broker-back', 'it is back')
    count += 20
    for (let n = 1_000; mesh.read.includes(n - 1) || n === 1_000; n += 1) {
      await mesh.publish(n)
      count += 1
      await mesh.deliveries('group', count)
    }
    await until(async () => (await mesh.log.state()).unsent === 0, 'it has everything')
  })

  it('come once and in order, also while two processes take themselves for the one that sends and takes', async () => {
    const lease = { hold: async () => true, release: async () => {} }
    const others = await Promise.all(
      [1, 2].map(() => openMesh({ database: mesh.database }, nats, { app: 'two-at-once', lease })),
    )
    for (const other of others) await other.start()
    for (let n = 1; n <= 300; n += 3) await others[n % 2]!.publish(n, n + 1, n + 2)
    assert.deepEqual(await mesh.deliveries('group', 300), upTo(300))
    for (const other of others) await other.stop()
    assert.deepEqual(await mesh.delivered('group'), upTo(300))
  })

  it('come again from the log if the stream is deleted, with everything in it', async () => {
    await mesh.start()
    const before = await warmUp()
    await deleteStream(nats.url)
    for (const n of upTo(50)) await mesh.publish(n)
    assert.deepEqual((await mesh.deliveries('group', before + 50)).slice(before), upTo(50))
    const again = before + 50
    const more = await (async () => {
      for (let n = 1; ; n += 1) {
        await mesh.publish(1_000 + n)
        await mesh.deliveries('group', again + n)
        if (!mesh.read.includes(1_000 + n)) return n // it has a stream again
      }
    })()
    assert.deepEqual((await mesh.delivered('group')).length, again + more)
  })

  it('that were lost by the broker, and followed by nothing, come from the log', async () => {
    await mesh.publish(1, 2, 3)
    while ((await mesh.log.number(100)) > 0);
    // As after a crash of the broker's machine: it has acknowledged them, and has nothing.
    await mesh.log.sent((await mesh.log.state()).last)
    await mesh.start()
    assert.deepEqual(await mesh.deliveries('group', 3), [1, 2, 3])
  })

  it('come to a group that is added later, from the oldest that is kept', async () => {
    await mesh.start()
    for (const n of upTo(30)) await mesh.publish(n)
    await mesh.deliveries('group', 30)
    await mesh.subscribe('later', 'start')
    await mesh.subscribe('now')
    await mesh.publish(31)
    assert.deepEqual(await mesh.deliveries('later', 31), upTo(31))
    assert.deepEqual(await mesh.deliveries('now', 1), [31])
    assert.deepEqual(await mesh.deliveries('group', 31), upTo(31))
  })

  it('that are larger than a message of the broker come from the log, in their order', async () => {
    await mesh.start()
    const before = await warmUp()
    const large = 'x'.repeat(2 * 1024 ** 2)
    await mesh.publish(1, large, 3)
    await mesh.publish(4)
    const payloads = (await mesh.deliveries('group', before + 4)).slice(before)
    assert.deepEqual(
      payloads.map((one) => (one === large ? 'large' : one)),
      [1, 'large', 3, 4],
    )
    await until(async () => (await mesh.log.state()).unsent === 0, 'it does not hold up what follows')
  })

  it('wait in the database if the stream is full, which is told, and come from there', async () => {
    await mesh.close()
    mesh = await openMesh(postgres, nats, { bytesMax: 20_000 })
    await mesh.subscribe('group')
    await mesh.start()
    const text = 'x'.repeat(1_000)
    for (const _ of upTo(40)) await mesh.publish(text)
    await mesh.deliveries('group', 40)
    await until(async () => mesh.troubles.includes('broker-full'), 'it is told')
    assert.ok((await mesh.log.state()).unsent > 0)
  })

  it('are taken from the log when there is no broker any more', async () => {
    await mesh.publish(...upTo(600))
    const { database, log } = mesh
    const woken: string[] = []
    const options = { database, log, logs: new Map([[database.name, log]]) }
    await drainLogs({ ...options, woken: (queues) => woken.push(...queues) })
    assert.deepEqual(await mesh.delivered('group'), upTo(600))
    assert.deepEqual(new Set(woken), new Set(['event:group']))
  })
})
