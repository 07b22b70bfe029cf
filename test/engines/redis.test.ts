import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { defineScript, openRedis, type RedisClient, subscribeRedis } from '../../src/engines/redis/client.ts'
import { redisConfig, redisUrl, redisVersion } from '../../src/engines/redis/recipe.ts'
import { startRedis } from '../../src/engines/redis/server.ts'
import { systemClock } from '../../src/kernel/clock.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { parseRedisUrl } from '../../src/topology/urls.ts'
import { blackHole, freePort } from '../support/ports.ts'
import { withTempDir } from '../support/postgres.ts'
import { ended, isRunning, processesOn, until } from '../support/process.ts'
import { noRedis, type TestRedis, testRedis } from '../support/redis.ts'

const skip = noRedis
const owner = fileURLToPath(new URL('../support/engine-owner.ts', import.meta.url))

async function withRedis(body: (redis: TestRedis, client: RedisClient) => Promise<void>): Promise<void> {
  const redis = await testRedis()
  const client = await openRedis({ url: redis.url })
  try {
    await body(redis, client)
  } finally {
    client.close()
    await redis.stop()
  }
}

/** How it fails, and after how many ms. */
async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string; afterMs: number }> {
  const began = systemClock.ticks()
  const error = await promise.then(
    () => assert.fail('it succeeds, where it should not'),
    (error: unknown) => error,
  )
  assert.ok(isRungError(error), inspect(error))
  return { code: error.code, message: error.message, afterMs: systemClock.ticks() - began }
}

test('recipe: a cache that keeps nothing on disk and never grows beyond its memory', () => {
  const settings = {
    dir: '/data/a "cache"',
    listen: { port: 7001 },
    memoryMaxBytes: 1000,
    password: 'pä"ss\n',
  }
  assert.equal(
    redisConfig(settings),
    [
      'bind 127.0.0.1',
      'port 7001',
      'protected-mode yes',
      'daemonize no',
      'dir "/data/a \\x22cache\\x22"',
      'logfile ""',
      'save ""',
      'appendonly no',
      'maxmemory 1000',
      'maxmemory-policy allkeys-lfu',
      'lazyfree-lazy-eviction yes',
      'lazyfree-lazy-expire yes',
      'lazyfree-lazy-server-del yes',
      'maxclients 10000',
      'tcp-keepalive 60',
      'timeout 0',
      'requirepass "p\\xc3\\xa4\\x22ss\\x0a"',
      '',
    ].join('\n'),
  )
  const onSocket = redisConfig({ ...settings, listen: { socketPath: '/run/r.sock' } })
  assert.match(onSocket, /^port 0\nunixsocket "\/run\/r.sock"\nunixsocketperm 700\n/)
  assert.doesNotMatch(onSocket, /^bind/m)
  assert.deepEqual(redisVersion('Redis server v=7.0.15 sha=0:0 malloc=x'), { product: 'Redis', version: '7.0.15' })
  assert.deepEqual(redisVersion('Valkey server v=8.1.0 sha=0:0'), { product: 'Valkey', version: '8.1.0' })
  assert.equal(redisVersion('nginx version: nginx/1.22.1'), undefined)
})

test('URLs of Redis', () => {
  const plain = { path: undefined, tls: false, username: undefined, password: undefined, db: 0 }
  assert.deepEqual(parseRedisUrl('redis://localhost'), { ...plain, host: 'localhost', port: 6379 })
  assert.deepEqual(parseRedisUrl('rediss://me:p%40ss@[::1]:7000/3'), {
    host: '::1',
    port: 7000,
    path: undefined,
    tls: true,
    username: 'me',
    password: 'p@ss',
    db: 3,
  })
  const local = redisUrl({ listen: { socketPath: '/tmp/a b/r.sock' }, password: 'x/y' })
  assert.deepEqual(parseRedisUrl(local), {
    ...plain,
    host: undefined,
    port: undefined,
    path: '/tmp/a b/r.sock',
    password: 'x/y',
  })
  for (const wrong of [
    '',
    'http://a',
    'redis://',
    'redis://a/x',
    'redis://a?db=1',
    'redis://a/1#b',
    'redis+unix://other/p',
    'redis://%zz@a',
  ])
    assert.equal(parseRedisUrl(wrong), undefined, wrong)
})

test('start, use, stop', { skip }, async () => {
  await withRedis(async (redis, client) => {
    assert.equal(client.isUp, true)
    assert.equal(await client.call('SET', 'a', 'ä'), 'OK')
    assert.deepEqual(await client.callBuffer('GET', 'a'), Buffer.from('ä'))
    assert.equal(await client.call('GET', 'nothing'), null)
    const add = defineScript("return {redis.call('incrby', KEYS[1], ARGV[1]), KEYS[1]}")
    assert.deepEqual(await client.script(add, ['n'], [2]), [2, 'n'])
    await assert.rejects(client.call('INCR', 'a'), (error) => isRungError(error, 'REDIS_REFUSED'))
    assert.deepEqual(await client.call('CONFIG', 'GET', 'maxmemory-policy'), ['maxmemory-policy', 'allkeys-lfu'])
    assert.equal(await redis.server.isHealthy(), true)
    const { mode } = await stat(path.join(redis.dir, 'redis.conf'))
    assert.equal(mode & 0o077, 0, 'its password is for its owner')
    const commandLine = await readFile(`/proc/${redis.server.pid}/cmdline`, 'utf8').catch(() => '')
    assert.doesNotMatch(commandLine, /password/)

    await redis.server.stop()
    await redis.server.stop()
    assert.equal(isRunning(redis.server.pid), false)
    assert.equal(existsSync(path.join(redis.dir, 'server.pid')), false)
    assert.equal(await redis.server.isHealthy(), false)
    const down = await failure(client.call('GET', 'a'))
    assert.equal(down.code, 'REDIS_UNAVAILABLE')
    assert.equal(client.trouble?.code, 'REDIS_UNAVAILABLE')

    await redis.start()
    await until(() => client.isUp, 'the client is connected again')
    assert.equal(await client.call('GET', 'a'), null, 'it comes back empty')
  })
})

test('on a Unix socket', { skip }, async () => {
  await withTempDir(async (dir) => {
    const server = await startRedis({ dir, listen: { socketPath: path.join(dir, 'r.sock') } })
    const client = await openRedis({ url: server.url })
    assert.equal(await client.call('PING'), 'PONG')
    client.close()
    await server.stop()
  })
})

test('an owner that is killed takes its server along', { skip }, async () => {
  await withTempDir(async (dir) => {
    const child = fork(owner, ['redis', dir, String(await freePort())], { stdio: 'inherit' })
    const [{ pid }] = (await once(child, 'message')) as [{ pid: number }]
    const watchdogs = await childrenOf(child.pid!, 'rung-watchdog')
    assert.equal(watchdogs.length, 1)
    child.kill('SIGKILL')
    await ended(pid)
    await ended(watchdogs[0]!)
  })
})

test('also a server that hangs, or whose watchdog was killed', { skip }, async () => {
  await withTempDir(async (dir) => {
    const port = await freePort()
    const child = fork(owner, ['redis', dir, String(port)], { stdio: 'inherit' })
    const [{ pid }] = (await once(child, 'message')) as [{ pid: number }]
    process.kill(pid, 'SIGSTOP')
    child.kill('SIGKILL')
    await ended(pid)
  })
  await withTempDir(async (dir) => {
    const port = await freePort()
    const child = fork(owner, ['redis', dir, String(port)], { stdio: 'inherit' })
    const [{ pid }] = (await once(child, 'message')) as [{ pid: number }]
    await assert.rejects(startRedis({ dir, listen: { port: await freePort() } }), { code: 'DATA_DIR_IN_USE' })
    assert.ok(isRunning(pid))
    for (const watchdog of await childrenOf(child.pid!, 'rung-watchdog')) process.kill(watchdog, 'SIGKILL')
    child.kill('SIGKILL')
    await once(child, 'exit')
    assert.ok(isRunning(pid), 'it survived')
    const server = await startRedis({ dir, listen: { port } })
    assert.equal(isRunning(pid), false, 'the next start ends it')
    await server.stop()
  })
})

test('starts that fail say why and leave nothing', { skip }, async () => {
  await withRedis(async (redis) => {
    await withTempDir(async (dir) => {
      await assert.rejects(startRedis({ dir, listen: { port: redis.port } }), (error) => {
        assert.ok(isRungError(error, 'PORT_IN_USE'))
        assert.match(error.message, new RegExp(`port ${redis.port}: another process does`))
        return true
      })
      await assert.rejects(
        startRedis({ dir, listen: { port: redis.port }, password: 'x', memoryMaxBytes: -5 }),
        (error) => {
          assert.ok(isRungError(error, 'ENGINE_START_FAILED'))
          assert.match(error.message, /maxmemory -5/)
          return true
        },
      )
      assert.equal(existsSync(path.join(dir, 'server.pid')), false)
      assert.deepEqual(await processesOn(dir), [])
    })
    await assert.rejects(startRedis({ dir: redis.dir, listen: { port: await freePort() } }), {
      code: 'DATA_DIR_IN_USE',
    })
    assert.equal(await redis.server.isHealthy(), true, 'the one that runs is not touched')
  })
})

test('a port that never answers: commands fail, nobody waits', async () => {
  const hole = await blackHole()
  try {
    const began = systemClock.ticks()
    const client = await openRedis({ url: `redis://:secret@127.0.0.1:${hole.port}` })
    assert.ok(systemClock.ticks() - began < 2_000, 'it opens without it')
    assert.equal(client.isUp, false)
    const { code, afterMs } = await failure(client.call('GET', 'a'))
    assert.equal(code, 'REDIS_UNAVAILABLE')
    assert.ok(afterMs < 1_000)
    client.close()
  } finally {
    hole.close()
  }
})

test('a server that hangs: commands fail after their limit, nothing is sent later', { skip }, async () => {
  await withRedis(async (redis, client) => {
    await client.call('SET', 'a', 'old')
    redis.hang()
    const hung = await failure(client.call('SET', 'a', 'late'))
    assert.equal(hung.code, 'REDIS_UNAVAILABLE')
    assert.ok(hung.afterMs > 150 && hung.afterMs < 1_500, `after ${hung.afterMs} ms`)
    await until(() => !client.isUp, 'the silent connection is given up')
    const other = await failure(client.call('GET', 'a'))
    assert.equal(other.code, 'REDIS_UNAVAILABLE')
    await redis.kill()
    await redis.start()
    await until(() => client.isUp, 'the client is connected again')
    assert.equal(await client.call('GET', 'a'), null, 'what was given up is not sent to the next server')
  })
})

test('a server that hangs is stopped all the same', { skip }, async () => {
  await withRedis(async (redis) => {
    redis.hang()
    assert.equal(await redis.server.isHealthy(), false)
    await Promise.all([redis.server.stop(), redis.server.stop()])
    assert.equal(isRunning(redis.server.pid), false)
  })
})

test('a killed server: those waiting fail at once', { skip }, async () => {
  await withRedis(async (redis, client) => {
    const changes: boolean[] = []
    client.onChange((isUp) => changes.push(isUp))
    redis.hang()
    const waiting = failure(client.call('GET', 'a'))
    await redis.kill()
    assert.equal((await waiting).code, 'REDIS_UNAVAILABLE')
    await redis.start()
    await until(() => client.isUp, 'the client is connected again')
    assert.deepEqual(changes, [false, true])
  })
})

test('passwords and values stay out of errors', { skip }, async () => {
  await withRedis(async (redis) => {
    const url = redis.url.replace(/:[^:@]*@/, ':a-wrong-secret@')
    const client = await openRedis({ url })
    assert.equal(client.isUp, false)
    const trouble = client.trouble!
    assert.equal(trouble.code, 'REDIS_REFUSED')
    assert.match(trouble.message, /WRONGPASS/)
    assert.doesNotMatch(inspect(trouble, { depth: 9, showHidden: true }), /a-wrong-secret/)
    assert.doesNotMatch(JSON.stringify(trouble), /a-wrong-secret/)
    client.close()
    const right = await openRedis({ url: redis.url })
    const error = await right.call('NOSUCH', 'a-value').catch((one: unknown) => one)
    assert.ok(isRungError(error, 'REDIS_REFUSED'))
    assert.doesNotMatch(inspect(error, { depth: 9, showHidden: true }), /a-value/)
    right.close()
  })
  await assert.rejects(openRedis({ url: 'http://x:secret@y' }), (error) => {
    assert.ok(isRungError(error, 'CONFIG_INVALID'))
    assert.doesNotMatch(error.message, /secret/)
    return true
  })
})

test('a subscriber hears, knows when it does not, and comes back', { skip }, async () => {
  await withRedis(async (redis, client) => {
    const seen: string[] = []
    const subscriber = await subscribeRedis({
      url: redis.url,
      channels: ['one', 'two'],
      onMessage: (channel, message) => seen.push(`${channel} ${message}`),
      onUp: () => seen.push('up'),
    })
    assert.equal(subscriber.isUp, true)
    await client.call('PUBLISH', 'one', 'a')
    await client.call('PUBLISH', 'two', 'b')
    await until(() => seen.length === 3, 'both are heard')
    redis.hang()
    await until(() => !subscriber.isUp, 'silence is noticed')
    redis.goOn()
    await until(() => subscriber.isUp && client.isUp, 'it is back')
    await client.call('PUBLISH', 'one', 'c')
    await until(() => seen.includes('one c'), 'it hears again')
    await redis.kill()
    await until(() => !subscriber.isUp, 'the end is noticed')
    await redis.start()
    await until(() => subscriber.isUp && client.isUp, 'it is back again')
    await client.call('PUBLISH', 'two', 'd')
    await until(() => seen.includes('two d'), 'it hears again')
    assert.deepEqual(seen, ['up', 'one a', 'two b', 'up', 'one c', 'up', 'two d'])
    subscriber.close()
  })
  const nobody = await subscribeRedis({ url: `redis://127.0.0.1:${await freePort()}`, channels: ['x'], onMessage() {} })
  assert.equal(nobody.isUp, false, 'an app starts without it')
  nobody.close()
})

async function childrenOf(pid: number, name: string): Promise<number[]> {
  const found: number[] = []
  for (const one of await processesOn(name)) {
    const text = await readFile(`/proc/${one}/stat`, 'utf8').catch(() => '')
    if (Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]) === pid) found.push(one)
  }
  return found
}
