import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type AppPart, type Ground, planFleet, portsNeeded } from '../../src/fleet/plan.ts'
import { type Sources, topologyOf } from '../../src/topology/changes.ts'

const env = { PATH: '/bin', LOG_LEVEL: 'warn', PORT: '1', RUNG_ROLE: 'both', RUNG_SECRET: 'another', DATABASE_URL: '' }
const ground: Ground = {
  dataDir: '/srv/data',
  tmpDir: '/tmp',
  app: { program: '/bin/node', args: ['bin.js'], file: '/srv/app.ts', cwd: '/srv', env },
  ports: [20_001, 20_002, 20_003, 20_004],
  secrets: { root: 'root secret', redis: 'redis secret', edge: 'edge secret' },
}

function plan(sources: Partial<Sources> = {}, changes: Partial<Ground> = {}) {
  const topology = topologyOf({ env: {}, options: { rung: '10k' }, ...sources })
  const all = { ...ground, ...changes }
  return { ...planFleet(topology, all), needed: portsNeeded(topology, all.app) }
}

function apps(parts: readonly { kind: string }[]): AppPart[] {
  return parts.filter((part): part is AppPart => part.kind === 'app')
}

describe('the plan of a fleet', () => {
  it('at 10k is an edge, a web process, a worker, Redis and Postgres', () => {
    const { url, parts, needed } = plan()
    assert.equal(url, 'http://127.0.0.1:3000')
    assert.equal(needed, 3)
    assert.deepEqual(
      parts.map(({ name, startWave, stopWave, address }) => [name, startWave, stopWave, address]),
      [
        ['edge', 2, 4, '127.0.0.1:3000'],
        ['web-1', 1, 3, '127.0.0.1:20002'],
        ['worker-1', 1, 2, '127.0.0.1:20003'],
        ['redis', 0, 1, '/srv/data/fleet/redis/redis.sock'],
        ['postgres', 0, 0, '/srv/data/run'],
      ],
    )
    assert.deepEqual(parts[0], {
      kind: 'edge',
      name: 'edge',
      startWave: 2,
      stopWave: 4,
      address: '127.0.0.1:3000',
      dir: '/srv/data/fleet/edge',
      listen: { host: '127.0.0.1', port: 3000 },
      adminPort: 20_001,
      secret: 'edge secret',
      tagsShown: false,
      upstreams: ['127.0.0.1:20002'],
    })
  })

  it('gives each process of the app everything by environment, and nothing secret on its command line', () => {
    const [web, worker] = apps(plan().parts)
    assert.deepEqual(web!.args, ['bin.js', 'start', '/srv/app.ts', '--role', 'web'])
    const shared = {
      PATH: '/bin',
      LOG_LEVEL: 'warn',
      HOST: '127.0.0.1',
      RUNG_TOPOLOGY: '10k',
      RUNG_DATA: '/srv/data',
      RUNG_WEB: '1',
      RUNG_POOL_READ: '10',
      RUNG_POOL_WRITE: '10',
      DATABASE_URL: 'postgres://app@/app?host=%2Fsrv%2Fdata%2Frun',
      RUNG_SECRET: 'root secret',
      RUNG_REDIS_URL: 'redis+unix://:redis%20secret@localhost/srv/data/fleet/redis/redis.sock',
      RUNG_EDGE_URL: 'http://127.0.0.1:20001',
      RUNG_EDGE_SECRET: 'edge secret',
    }
    assert.deepEqual(web!.env, { ...shared, PORT: '20002', RUNG_ROLE: 'web', RUNG_TRUST_PROXY: '127.0.0.1' })
    assert.deepEqual(worker!.env, { ...shared, PORT: '20003', RUNG_ROLE: 'worker' })
    const all = plan({ env: {} }, { app: { ...ground.app, env: { RUNG_TRUST_PROXY: '10.0.0.0/8' } } })
    assert.equal(apps(all.parts)[0]!.env.RUNG_TRUST_PROXY, '10.0.0.0/8,127.0.0.1')
  })

  it('hands on the CDN of the topology, and none that was switched off', () => {
    const file = { cdn: { name: 'fastly', id: 'abc' } }
    const around = { ...ground.app.env, RUNG_CDN: 'off', RUNG_CDN_ID: 'old', RUNG_CDN_TOKEN: 't' }
    const on = plan({ file, env: { RUNG_CDN_TOKEN: 't' } }, { app: { ...ground.app, env: around } })
    const cdn = { RUNG_CDN: 'fastly', RUNG_CDN_ID: 'abc', RUNG_CDN_TOKEN: 't', RUNG_CDN_URL: undefined }
    for (const { env } of apps(on.parts)) assert.deepEqual({ ...env, ...cdn }, env)
    assert.ok(on.parts.some((part) => part.kind === 'edge' && part.tagsShown))
    const off = plan({ file, env: around }, { app: { ...ground.app, env: around } })
    for (const { env } of apps(off.parts)) assert.ok(!Object.keys(env).some((name) => name.startsWith('RUNG_CDN')))
    assert.ok(off.parts.some((part) => part.kind === 'edge' && !part.tagsShown))
  })

  it('has several web processes behind the edge, and connections for all', () => {
    const { parts, needed } = plan({ options: { rung: '10k', 'processes.web': '2' } })
    assert.equal(needed, 4)
    const [edge] = parts
    assert.deepEqual(edge?.kind === 'edge' && edge.upstreams, ['127.0.0.1:20002', '127.0.0.1:20003'])
    const postgres = parts.at(-1)!
    assert.equal(postgres.kind === 'postgres' && postgres.connectionsMax, 80)
  })

  it('has one process that archives, which knows nothing of the app, where a backup directory is named', () => {
    const archiving = { ...env, RUNG_BACKUP_DIR: 'backups', RUNG_BACKUP_KEEP: '3', RUNG_REDIS_URL: 'redis://r' }
    const { parts, needed } = plan({}, { app: { ...ground.app, env: archiving } })
    assert.equal(needed, 4)
    assert.deepEqual(parts.at(-1), {
      kind: 'archiver',
      name: 'archiver',
      startWave: 1,
      stopWave: 1,
      address: '127.0.0.1:20004',
      dir: '/srv/data/fleet/archiver',
      program: '/bin/node',
      args: ['bin.js', 'backup', '--stream', '--port', '20004'],
      cwd: '/srv',
      env: {
        PATH: '/bin',
        LOG_LEVEL: 'warn',
        RUNG_BACKUP_DIR: 'backups',
        RUNG_BACKUP_KEEP: '3',
        RUNG_DATA: '/srv/data',
      },
      healthUrl: 'http://127.0.0.1:20004/healthz',
      stopTimeoutMs: 10_000,
    })
    for (const { env: own } of apps(parts)) assert.equal(own.RUNG_BACKUP_DIR, undefined)
    const file = { data: { url: 'postgres://db/app' } }
    const theirs = plan({ file }, { app: { ...ground.app, env: archiving } })
    assert.equal(theirs.needed, 3)
    assert.ok(theirs.parts.every(({ kind }) => kind !== 'archiver'))
    assert.equal(apps(theirs.parts)[0]!.env.RUNG_BACKUP_DIR, 'backups', 'the app refuses it')
  })

  it('starts no engine that is somebody else’s', () => {
    const file = { data: { url: 'postgres://db/app' }, cache: { url: 'redis://r' } }
    const { parts } = plan({ file })
    assert.deepEqual(
      parts.map(({ name }) => name),
      ['edge', 'web-1', 'worker-1'],
    )
    assert.deepEqual(
      [apps(parts)[0]!.env.DATABASE_URL, apps(parts)[0]!.env.RUNG_REDIS_URL],
      ['postgres://db/app', 'redis://r'],
    )
  })

  it('without an edge lets the web process have the port, and believe nobody', () => {
    const { parts, needed, url } = plan({ file: { edge: 'off', http: { host: '0.0.0.0', port: 80 } } })
    const [web] = apps(parts)
    assert.equal(needed, 1)
    assert.equal(url, 'http://localhost:80')
    assert.deepEqual([web!.env.HOST, web!.env.PORT, web!.env.RUNG_TRUST_PROXY], ['0.0.0.0', '80', undefined])
    assert.equal(web!.env.RUNG_EDGE_URL, undefined)
    assert.equal(web!.stopTimeoutMs, 60_000)
    assert.equal(web!.healthUrl, 'http://localhost:80/healthz')
  })

  it('at 1k is one process and Postgres', () => {
    const { parts } = plan({ options: {} })
    assert.deepEqual(
      parts.map(({ name }) => name),
      ['app-1', 'postgres'],
    )
    assert.equal(apps(parts)[0]!.env.RUNG_REDIS_URL, undefined)
  })

  it('keeps the paths of sockets short', () => {
    const { parts } = plan({}, { dataDir: `/srv/${'deep/'.repeat(20)}data` })
    for (const part of parts)
      if (part.kind === 'redis') assert.match(part.socketPath, /^\/tmp\/rung-[0-9a-f]{12}\/redis\.sock$/)
      else if (part.kind === 'edge') assert.match(part.dir, /^\/tmp\/rung-[0-9a-f]{12}$/)
  })
})
