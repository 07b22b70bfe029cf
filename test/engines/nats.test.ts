import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type NatsClient, natsAnswers, openNats, type StreamSettings } from '../../src/engines/nats/client.ts'
import { natsConfig, natsUrl, natsVersion } from '../../src/engines/nats/recipe.ts'
import { type NatsServer, startNats } from '../../src/engines/nats/server.ts'
import { parseNatsUrls } from '../../src/topology/urls.ts'
import { noNats, type TestNats, testNats } from '../support/nats.ts'
import { freePort } from '../support/ports.ts'
import { until } from '../support/process.ts'

const stream = (name: string, changes: Partial<StreamSettings> = {}): StreamSettings => ({
  ...{ name, subjects: [`${name}.>`], bytesMax: 16 * 1024 ** 2, ageMsMax: 600_000, replicas: 1 },
  ...changes,
})
const consumer = (of: string) => ({ stream: of, name: 'one', subject: `${of}.>`, ackWaitMs: 5_000, pendingMax: 100 })

it('reads the version, and URLs of one node and of several', () => {
  assert.equal(natsVersion('nats-server: v2.9.10'), '2.9.10')
  assert.equal(natsVersion('something else'), undefined)
  assert.deepEqual(parseNatsUrls('nats://me:p%40ss@a,nats://me:p%40ss@b:1/'), {
    ...{ servers: ['a:4222', 'b:1'], user: 'me', password: 'p@ss', tls: false },
  })
  assert.equal(parseNatsUrls('tls://a')!.tls, true)
  for (const wrong of ['http://a', 'nats://a/x', 'nats://a,tls://b', 'nats://me@a,nats://you@b', 'nats://', '']) {
    assert.equal(parseNatsUrls(wrong), undefined, wrong)
  }
})

it('quotes what it writes into the configuration', () => {
  const text = natsConfig({
    ...{ name: 'nats', dir: '/a "folder"', listen: { port: 1 }, password: 'pass"word', storeBytesMax: 1 },
  })
  assert.match(text, /password: "pass\\"word"/)
  assert.match(text, /store_dir: "\/a \\"folder\\"\/store"/)
  assert.match(text, /listen: "127\.0\.0\.1:1"/)
})

describe('NATS', { skip: noNats }, () => {
  let nats: TestNats
  let client: NatsClient
  before(async () => {
    nats = await testNats()
    client = await openNats({ url: nats.url, name: 'test', timeoutMs: 1_000 })
  })
  after(async () => {
    await client.close()
    await nats.stop()
  })

  it('lets in only who knows the password, and hides it', async () => {
    assert.equal(await natsAnswers(nats.url, 5_000), true)
    const { host } = new URL(nats.url)
    assert.equal(await natsAnswers(natsUrl(host, 'wrong'), 5_000), false)
    assert.equal(await natsAnswers(`nats://${host}`, 5_000), false)
    const stranger = await openNats({ url: natsUrl(host, 'wrong'), name: 'stranger' })
    assert.equal(stranger.isUp, false)
    assert.equal(stranger.trouble!.code, 'NATS_UNAVAILABLE')
    assert.doesNotMatch(stranger.trouble!.message, /wrong/)
    await stranger.close()
    assert.equal((await stat(path.join(nats.dir, 'nats.conf'))).mode & 0o077, 0)
  })

  it('stores a message once for each id, and delivers it until it is acknowledged', async () => {
    await client.ensureStream(stream('ids'))
    for (const id of ['a', 'b', 'a']) await client.publish('ids.x', id, id)
    const got: string[] = []
    const consumption = await client.consume(consumer('ids'), ({ data, ack }) => {
      got.push(data)
      ack()
    })
    await until(async () => got.length === 2, 'both are there')
    await consumption.close()
    assert.equal(await consumption.ended, undefined)
    assert.deepEqual(got, ['a', 'b'])
  })

  it('refuses what does not fit into a stream any more, until its limits are raised', async () => {
    const full = stream('full', { bytesMax: 5_000 })
    await client.ensureStream(full)
    const text = 'x'.repeat(1_000)
    await assert.rejects(
      async () => {
        for (let n = 0; n < 10; n += 1) await client.publish('full.x', text, `${n}`)
      },
      { code: 'NATS_REFUSED' },
    )
    await client.ensureStream({ ...full, bytesMax: 50_000 })
    await client.publish('full.x', text, 'more')
  })

  it('fails fast while the server hangs or is gone, and has what it stored when it is back', async () => {
    await client.ensureStream(stream('kept'))
    await client.publish('kept.x', 'before', 'before')
    nats.hang()
    const fails = (id: string) =>
      client.publish('kept.x', 'while it hangs', id).then(
        () => false,
        ({ code }) => code === 'NATS_UNAVAILABLE',
      )
    await until(() => fails('h'), 'it says nothing any more')
    await until(async () => !client.isUp, 'that it hangs is noticed')
    nats.goOn()
    await until(async () => client.isUp, 'it is back')
    await nats.kill()
    await until(async () => !client.isUp, 'that it is gone is noticed')
    await assert.rejects(client.publish('kept.x', 'while it is gone', 'g'), { code: 'NATS_UNAVAILABLE' })
    await nats.start()
    await until(async () => client.isUp, 'it is back')
    const got: string[] = []
    const consumption = await client.consume(consumer('kept'), ({ data, ack }) => {
      got.push(data)
      ack()
    })
    await until(async () => got.includes('before'), 'it was stored')
    await consumption.close()
  })

  it('tells a consumer that its stream is gone', async () => {
    await client.ensureStream(stream('gone'))
    const consumption = await client.consume(consumer('gone'), () => {})
    await nats.kill()
    await nats.wipe()
    await nats.start()
    assert.equal((await consumption.ended)?.code, 'NATS_UNAVAILABLE')
  })
})

it('stores each message on three nodes, and goes on without one of them', { skip: noNats }, async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-nats-'))
  const ports: number[] = []
  while (ports.length < 6) ports.push(await freePort())
  const routes = [3, 4, 5].map((at) => `127.0.0.1:${ports[at]}`)
  const servers: NatsServer[] = []
  let client: NatsClient | undefined
  try {
    const start = (at: number) =>
      startNats({
        ...{ name: `nats-${at + 1}`, dir: path.join(dir, `nats-${at + 1}`), password: 'secret' },
        ...{ listen: { port: ports[at]! }, cluster: { port: ports[at + 3]!, routes } },
      })
    servers.push(...(await Promise.all([0, 1, 2].map(start))))
    client = await openNats({ url: servers.map(({ url }) => url).join(), name: 'test', timeoutMs: 5_000 })
    const settings = stream('three', { replicas: 3 })
    // They choose a leader first.
    await until(
      async () =>
        client!.ensureStream(settings).then(
          () => true,
          () => false,
        ),
      'the stream is there',
    )
    for (let n = 0; n < 20; n += 1) await client.publish('three.x', String(n), String(n))
    const [first] = servers.splice(0, 1)
    first!.kill()
    await first!.stop()
    await until(
      async () =>
        client!.publish('three.x', '20', '20').then(
          () => true,
          () => false,
        ),
      'two go on',
    )
    const got = new Set<string>()
    const complete = Promise.withResolvers<void>()
    while (got.size < 21) {
      // The leader of a consumer may be the lost node: then it ends, and another one is chosen.
      const consumption = await client
        .consume(consumer('three'), ({ data, ack }) => {
          got.add(data)
          ack()
          if (got.size === 21) complete.resolve()
        })
        .catch(() => undefined)
      if (consumption) await Promise.race([consumption.ended, complete.promise])
    }
    assert.deepEqual(
      [...got].sort((a, b) => Number(a) - Number(b)),
      Array.from({ length: 21 }, (_, n) => String(n)),
    )
  } finally {
    await client?.close()
    await Promise.all(servers.map((one) => one.stop()))
    await rm(dir, { recursive: true, force: true })
  }
})
