import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Engine } from '../../src/engines/process/engine.ts'
import { engines } from '../../src/fleet/engines.ts'
import type { Part } from '../../src/fleet/placement.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import { parseNatsUrls } from '../../src/topology/urls.ts'
import { appsOf, plannedOptions as optionsOf, planOf } from '../support/plan.ts'

const rungs = { '1k': { rung: '1k' }, '10k': { rung: '10k' } }

const bindingsOf = ({ env }: { env: Record<string, string | undefined> }) => readBindings(env, '/srv')

describe('the plan of a fleet', () => {
  it('at 10k is an edge, a web process, a worker, Redis and Postgres', () => {
    const { url, parts, needed } = planOf()
    assert.equal(url, 'http://127.0.0.1:3000')
    assert.equal(needed, 3)
    assert.deepEqual(
      parts.map(({ name, address }) => [name, address]),
      [
        ['edge', '127.0.0.1:3000'],
        ['web-1', '127.0.0.1:20002'],
        ['worker-1', '127.0.0.1:20003'],
        ['redis', '/srv/data/fleet/redis/redis.sock'],
        ['postgres', '/srv/data/run'],
      ],
    )
    assert.deepEqual(optionsOf(parts, 'edge'), {
      dir: '/srv/data/fleet/edge',
      listen: { host: '127.0.0.1', port: 3000 },
      adminPort: 20_001,
      secret: 'edge-secret',
      tagsShown: false,
      upstreams: ['127.0.0.1:20002'],
      servers: [{ name: 'web-1', address: '127.0.0.1:20002' }],
      spreads: true,
      trustedProxies: [],
    })
  })

  it('has one NATS, or three that know each other and have one password, where events go over a broker', () => {
    const one = planOf({ env: { RUNG_EVENTS: 'jetstream' } })
    const [nats] = one.parts.filter(({ name }) => name.startsWith('nats'))
    assert.equal(nats!.name, 'nats')
    assert.ok(nats!.startWave < appsOf(one.parts)[0]!.startWave)
    const three = planOf({ env: { RUNG_EVENTS: 'jetstream', RUNG_NATS_NODES: '3' } })
    const nodes = three.parts.filter(({ name }) => name.startsWith('nats'))
    assert.deepEqual(
      nodes.map(({ name }) => name),
      ['nats-1', 'nats-2', 'nats-3'],
    )
    const passwords = nodes.map(({ name }) => optionsOf(three.parts, name).password)
    assert.equal(new Set(passwords).size, 1)
    const { events } = bindingsOf(appsOf(three.parts)[0]!)
    assert.ok(events.engine === 'jetstream')
    assert.deepEqual(
      parseNatsUrls(events.url)!.servers,
      nodes.map(({ address }) => address),
    )
    assert.equal(events.stream.replicas, 3)
  })

  it('starts from the inside, and stops from the outside', () => {
    const { parts } = planOf({ env: { RUNG_BACKUP_DIR: 'backups' } })
    const wavesBy = (wave: (part: Part) => number) =>
      [...Map.groupBy(parts, wave)].sort(([a], [b]) => a - b).map(([, wave]) => wave.map(({ name }) => name).sort())
    assert.deepEqual(
      wavesBy(({ startWave }) => startWave),
      [['postgres', 'redis'], ['archiver', 'web-1', 'worker-1'], ['edge']],
    )
    assert.deepEqual(
      wavesBy(({ stopWave }) => -stopWave),
      [['edge'], ['web-1'], ['worker-1'], ['archiver'], ['postgres', 'redis']],
    )
  })

  it('tells each process of the app everything by its environment, and nothing secret on its command line', () => {
    const env = { PATH: '/bin', LOG_LEVEL: 'warn', PORT: '1', RUNG_ROLE: 'both', RUNG_CONFIG: 'mine.ts' }
    const [web, worker] = appsOf(planOf({ env }).parts)
    assert.deepEqual(web!.args, ['bin.js', 'start', '/srv/app.ts', '--role', 'web'])
    const shared = {
      PATH: '/bin',
      LOG_LEVEL: 'warn',
      HOST: '127.0.0.1',
      RUNG_CONFIG: 'none',
      RUNG_TOPOLOGY: '10k',
      RUNG_DATA: '/srv/data',
      DATABASE_URL: 'postgres://app@/app?host=%2Fsrv%2Fdata%2Frun',
      RUNG_SECRET: 'a root of all keys, long enough to be one',
      RUNG_FILES_SHARED: 'on',
      RUNG_REDIS_URL: 'redis+unix://:redis-secret@localhost/srv/data/fleet/redis/redis.sock',
      RUNG_EDGE_URL: 'http://127.0.0.1:20001',
      RUNG_EDGE_SECRET: 'edge-secret',
    }
    assert.deepEqual(web!.env, { ...shared, PORT: '20002', RUNG_ROLE: 'web', RUNG_TRUST_PROXY: '127.0.0.1' })
    assert.deepEqual(worker!.env, { ...shared, PORT: '20003', RUNG_ROLE: 'worker' })
    const behind = planOf({ env: { RUNG_TRUST_PROXY: '10.0.0.0/8' } }).parts
    assert.equal(appsOf(behind)[0]!.env.RUNG_TRUST_PROXY, '10.0.0.0/8,127.0.0.1')
    assert.deepEqual(optionsOf(behind, 'edge').trustedProxies, ['10.0.0.0/8']) // otherwise it would hide what they forward
  })

  it('gives its certificate to the outermost part only, and to no process of the app', () => {
    const env = { RUNG_TLS_CERT: 'c.pem', RUNG_TLS_KEY: 'k.pem', RUNG_PLAIN_PORT: '80', RUNG_ACME_DIR: 'acme' }
    const tls = { pem: 'PEM', plainPort: 80, hstsDays: 0, acme: true }
    for (const [rung, more, entry, other] of [
      ['100k', {}, 'edge', 'balancer'],
      ['10k', {}, 'edge', undefined],
      ['1k', { RUNG_BALANCER: 'on' }, 'balancer', undefined],
    ] as const) {
      const { url, parts } = planOf({ options: { rung }, env: { ...env, ...more }, site: { pem: 'PEM' } })
      assert.equal(url, 'https://127.0.0.1:3000')
      assert.deepEqual(optionsOf(parts, entry).tls, tls)
      if (other) assert.equal(optionsOf(parts, other).tls, undefined)
      for (const app of appsOf(parts)) {
        assert.deepEqual(
          Object.keys(app.env).filter((name) => /TLS|PLAIN/.test(name)),
          [],
        )
        assert.equal(bindingsOf(app as never).acmeDir, '/srv/acme')
      }
    }
  })

  it('hands on what the file says, by the environment alone', () => {
    const url = 's3://key:secret@s3.example.org/bucket'
    const file = {
      processes: { web: 2 },
      log: { sample: 0.5 },
      data: { readConnectionsMax: 7 },
      limits: 'off',
      files: { url },
    }
    const { parts } = planOf({ file })
    for (const app of appsOf(parts)) {
      const { webProcesses, log, data, limits, files } = bindingsOf(app as never)
      assert.deepEqual(files, { engine: 's3', url })
      assert.deepEqual([webProcesses, log.sample, data.readConnectionsMax, limits], [2, 0.5, 7, 'off'])
    }
  })

  it('hands on the CDN of the topology, and none that was switched off', () => {
    const file = { cdn: { name: 'fastly', id: 'abc' } }
    const on = planOf({ file, env: { RUNG_CDN_TOKEN: 't' } })
    for (const app of appsOf(on.parts))
      assert.deepEqual(bindingsOf(app as never).cdn, { name: 'fastly', id: 'abc', url: undefined, token: 't' })
    assert.equal(optionsOf(on.parts, 'edge').tagsShown, true)
    const off = planOf({ file, env: { RUNG_CDN_TOKEN: 't', RUNG_CDN: 'off' } })
    for (const app of appsOf(off.parts)) assert.equal(bindingsOf(app as never).cdn, undefined)
    assert.equal(optionsOf(off.parts, 'edge').tagsShown, false)
  })

  it('has several web processes behind the edge, and connections for all', () => {
    const { parts, needed, deployment } = planOf({ options: { rung: '10k', web: '3' } })
    const { readConnectionsMax, writeConnectionsMax } = deployment.topology.data
    assert.equal(needed, 5)
    assert.deepEqual(optionsOf(parts, 'edge').upstreams, ['127.0.0.1:20002', '127.0.0.1:20003', '127.0.0.1:20004'])
    const processes = 4
    assert.ok(
      Number(optionsOf(parts, 'postgres').connectionsMax) > processes * (readConnectionsMax + writeConnectionsMax),
    )
  })

  it('needs the same Postgres as rung start, which climbing to 10k then need not restart', () => {
    for (const env of [{}, { RUNG_POOL_READ: '30' }]) {
      const { data } = readBindings({ ...env, RUNG_TOPOLOGY: '10k', RUNG_REDIS_URL: 'redis://r' }, '/srv')
      const planned = optionsOf(planOf({ env }).parts, 'postgres').connectionsMax
      assert.equal(data.engine === 'embedded' && data.connectionsMax, planned)
    }
    const { data } = readBindings({}, '/srv')
    assert.equal(
      data.engine === 'embedded' && data.connectionsMax,
      optionsOf(planOf().parts, 'postgres').connectionsMax,
    )
  })

  it('has one process that archives, which knows nothing of the app, where a backup directory is named', () => {
    const bucket = {
      RUNG_BACKUP_S3_URL: 's3://k:s@host/bucket',
      RUNG_BACKUP_KEY: 'a key that is long enough to be one',
    }
    const env = {
      ...{ PATH: '/bin', LOG_LEVEL: 'warn', RUNG_BACKUP_DIR: 'backups', RUNG_BACKUP_KEEP: '3' },
      ...bucket,
      ...{
        RUNG_SECRET: 'another root of keys, long enough to be one',
        RUNG_SMTP_URL: 'smtp://m',
        RUNG_MAIL_FROM: 'a@b.c',
      },
    }
    const { parts, needed } = planOf({ env })
    assert.equal(needed, 4)
    const archiver = parts.at(-1)!
    assert.ok(archiver.kind === 'archiver')
    assert.deepEqual(archiver.args, ['bin.js', 'backup', '--stream', '--port', '20004'])
    assert.deepEqual(archiver.env, {
      ...{ PATH: '/bin', LOG_LEVEL: 'warn', RUNG_BACKUP_DIR: 'backups', RUNG_BACKUP_KEEP: '3' },
      ...bucket,
      ...{ RUNG_CONFIG: 'none', RUNG_DATA: '/srv/data' },
    })
    for (const app of appsOf(parts)) {
      assert.equal(bindingsOf(app as never).backup.dir, undefined)
      assert.equal(app.env.RUNG_BACKUP_KEY, undefined)
    }
    const { RUNG_BACKUP_DIR: _, ...withoutFolder } = env
    assert.ok(planOf({ env: withoutFolder }).parts.some(({ kind }) => kind === 'archiver'))
    const theirs = planOf({ env, file: { data: { url: 'postgres://db/app' } } })
    assert.ok(theirs.parts.every(({ kind }) => kind !== 'archiver'))
    assert.equal(appsOf(theirs.parts)[0]!.env.RUNG_BACKUP_DIR, 'backups', 'the app refuses it')
  })

  it('starts no engine that is somebody else’s', () => {
    const { parts } = planOf({ file: { data: { url: 'postgres://db/app' }, cache: { url: 'redis://r' } } })
    assert.deepEqual(
      parts.map(({ name }) => name),
      ['edge', 'web-1', 'worker-1'],
    )
    const { DATABASE_URL, RUNG_REDIS_URL } = appsOf(parts)[0]!.env
    assert.deepEqual([DATABASE_URL, RUNG_REDIS_URL], ['postgres://db/app', 'redis://r'])
  })

  it('without an edge lets the web process have the port, and believe nobody', () => {
    const { parts, needed, url } = planOf({ file: { edge: 'off', http: { host: '0.0.0.0', port: 80 } } })
    const [web] = appsOf(parts)
    assert.equal(needed, 1)
    assert.equal(url, 'http://localhost:80')
    assert.deepEqual([web!.env.HOST, web!.env.PORT, web!.env.RUNG_TRUST_PROXY], ['0.0.0.0', '80', undefined])
    assert.equal(web!.env.RUNG_EDGE_URL, undefined)
    assert.equal(web!.healthUrl, 'http://localhost:80/healthz')
  })

  it('at 1k is one process and Postgres', () => {
    const { parts } = planOf({ options: rungs['1k'] })
    assert.deepEqual(
      parts.map(({ name }) => name),
      ['app-1', 'postgres'],
    )
    assert.equal(appsOf(parts)[0]!.env.RUNG_REDIS_URL, undefined)
  })

  it('runs Redis as a cluster: each node has ports for the others, and the app reaches it through its socket', () => {
    const { parts } = planOf({ env: { RUNG_REDIS_NODES: '3' } })
    const nodes = parts.filter(({ name }) => name.startsWith('redis'))
    assert.deepEqual(
      nodes.map(({ name }) => name),
      ['redis-1', 'redis-2', 'redis-3'],
    )
    type Options = { password: string; cluster: { port: number; busPort: number; index: number; nodes: number } }
    const options = nodes.map(({ name }) => optionsOf(parts, name) as unknown as Options)
    assert.deepEqual(
      options.map(({ cluster: { index, nodes } }) => [index, nodes]),
      [
        [0, 3],
        [1, 3],
        [2, 3],
      ],
    )
    const ports = options.flatMap(({ cluster: { port, busPort } }) => [port, busPort])
    assert.equal(new Set(ports.filter((port) => port > 20_000)).size, 6)
    assert.equal(new Set(options.map(({ password }) => password)).size, 1)
    const env = appsOf(parts)[0]!.env
    const urls = nodes.map(({ name }) => `redis+unix://:redis-1-secret@localhost/srv/data/fleet/${name}/redis.sock`)
    assert.equal(env.RUNG_REDIS_URL, urls.join(','))
    assert.deepEqual(bindingsOf({ env }).cache.shared, { engine: 'redis', urls, nodes: 3 })
  })

  it('keeps the paths of sockets short', () => {
    const { parts } = planOf({ site: { dataDir: `/srv/${'deep/'.repeat(20)}data` } })
    const redis = optionsOf(parts, 'redis') as { listen: { socketPath: string } }
    assert.match(redis.listen.socketPath, /^\/tmp\/rung-[0-9a-f]{12}\/redis\.sock$/)
    assert.match(String(optionsOf(parts, 'edge').dir), /^\/tmp\/rung-[0-9a-f]{12}$/)
  })
})

describe('another engine', () => {
  const state = { product: 'x', version: '1', path: '/bin/x', problem: null }
  const running = {
    pid: 1,
    exited: new Promise<string>(() => {}),
    answers: async () => true,
    kill() {},
    async stop() {},
  }

  it('between the app and Postgres is one object and one entry of the list', () => {
    const pooler: Engine = {
      ...{ name: 'pooler', product: 'a pooler', part: 'pooler', side: 'behind', needs: ['postgres'], ports: 1 },
      look: () => state,
      use: () => 'managed',
      describe: () => 'pools the connections of all processes',
      place: ({ dirFor, ports: [port] }) => ({
        ...{ address: `127.0.0.1:${port}`, dir: dirFor(), log: `${dirFor()}/server.log`, options: { port } },
        environment: { RUNG_POOLER_URL: `postgres://app@127.0.0.1:${port}` },
        start: async () => running,
      }),
    }
    const { parts, needed, deployment } = planOf({ engines: [...engines, pooler] })
    assert.equal(needed, 4)
    const wave = (name: string) => parts.find((part) => part.name === name)!
    assert.ok(wave('postgres').startWave < wave('pooler').startWave)
    assert.ok(wave('pooler').startWave < wave('web-1').startWave)
    assert.ok(wave('postgres').stopWave < wave('pooler').stopWave)
    assert.ok(wave('pooler').stopWave < wave('worker-1').stopWave)
    for (const { env } of appsOf(parts)) assert.match(env.RUNG_POOLER_URL!, /^postgres:\/\/app@127\.0\.0\.1:2000\d$/)
    assert.equal(deployment.parts.find(({ name }) => name === 'pooler')!.count, 1)
  })

  /** A database that follows the primary, in several instances, and a pooler that knows all of them. */
  const copies: Engine = {
    ...{ name: 'copies', product: 'copies', part: 'copies', side: 'behind', needs: ['postgres'], ports: 1 },
    look: () => state,
    use: () => 'managed',
    instances: ({ data }) => Array.from({ length: data.replicas }, (_, index) => `postgres-${index + 2}`),
    describe: () => 'copies of the database',
    place: ({ name, dirFor, ports: [port], placed }) => ({
      ...{ address: `127.0.0.1:${port}`, dir: dirFor(), log: '' },
      options: { name, follows: placed('postgres')[0]!.address },
      environment: { DATABASE_READ_URL: `postgres://app@/app?host=%2F${name}` },
      start: async () => running,
    }),
  }
  const knowing: Engine = {
    ...{ name: 'knowing', product: 'a pooler', part: 'knowing', side: 'behind', needs: ['postgres', 'copies'] },
    look: () => state,
    use: () => 'managed',
    describe: () => 'pools the connections of all processes',
    place: ({ dirFor, placed }) => ({
      ...{ address: '', dir: dirFor(), log: '', environment: {} },
      options: { knows: [...placed('postgres'), ...placed('copies')].map(({ address }) => address) },
      start: async () => running,
    }),
  }

  it('may have several instances, and sees those of the parts that it needs', () => {
    const all = [...engines.filter(({ part }) => part !== 'replica'), copies, knowing]
    const [forwards, backwards] = [all, all.toReversed()].map((list) => {
      const sorted = [...list].sort((a, b) => Number(a.side === 'behind') - Number(b.side === 'behind'))
      return planOf({ engines: sorted, options: { rung: '100k' }, env: { RUNG_POOLER: 'off', RUNG_BALANCER: 'off' } })
    })
    for (const { parts, needed, deployment } of [forwards!, backwards!]) {
      assert.equal(needed, 2 + 4 - 1 + 2)
      assert.equal(deployment.parts.find(({ name }) => name === 'copies')!.count, 2)
      assert.deepEqual(
        ['postgres-2', 'postgres-3'].map((name) => optionsOf(parts, name)),
        [
          { name: 'postgres-2', follows: '/srv/data/run' },
          { name: 'postgres-3', follows: '/srv/data/run' },
        ],
      )
      const knows = optionsOf(parts, 'knowing').knows as string[]
      assert.deepEqual(
        knows.map((address) => address.replace(/\d+$/, '')),
        ['/srv/data/run', '127.0.0.1:', '127.0.0.1:'],
      )
      const wave = (name: string) => parts.find((part) => part.name === name)!
      assert.ok(wave('postgres').startWave < wave('postgres-2').startWave)
      assert.equal(wave('postgres-2').startWave, wave('postgres-3').startWave)
      assert.ok(wave('postgres-3').startWave < wave('knowing').startWave)
      const { DATABASE_READ_URL, DATABASE_URL } = appsOf(parts)[0]!.env
      assert.equal(DATABASE_READ_URL, 'postgres://app@/app?host=%2Fpostgres-2,postgres://app@/app?host=%2Fpostgres-3')
      assert.equal(DATABASE_URL, 'postgres://app@/app?host=%2Fsrv%2Fdata%2Frun')
    }
  })

  it('runs the replicas of a rung, each in a folder of its own, and tells the processes of the app in order', () => {
    const env = { RUNG_POOLER: 'off', RUNG_BALANCER: 'off' }
    const { parts } = planOf({ options: { rung: '100k' }, env })
    for (const name of ['postgres-2', 'postgres-3']) {
      const { connectionsMax, ...rest } = optionsOf(parts, name)
      assert.equal(connectionsMax, optionsOf(parts, 'postgres').connectionsMax)
      assert.deepEqual(rest, { name, dataDir: '/srv/data' })
    }
    assert.equal(
      appsOf(parts)[0]!.env.DATABASE_READ_URL,
      'postgres://app@/app?host=%2Fsrv%2Fdata%2Fpostgres-2%2Frun,postgres://app@/app?host=%2Fsrv%2Fdata%2Fpostgres-3%2Frun',
    )
    assert.ok(!planOf().parts.some(({ name }) => name === 'postgres-2'))
  })

  it('sets no variable of another one', () => {
    const greedy: Engine = {
      ...copies,
      ...{ part: 'greedy', instances: () => ['greedy'] },
      place: (site) => ({ ...copies.place!(site), environment: { DATABASE_URL: 'postgres://greedy/app' } }),
    }
    assert.throws(() => planOf({ engines: [...engines, greedy] }), /two engines set DATABASE_URL/)
  })

  it('in front of the page cache takes the port of the clients, and passes on to it', () => {
    const balancer: Engine = {
      ...{ name: 'balancer', product: 'a balancer', part: 'balancer', side: 'front' },
      look: () => state,
      use: () => 'managed',
      describe: (_, entry) => `balances at ${entry}`,
      place: ({ dirFor, listen, upstreams }) => ({
        ...{ address: `${listen.host}:${listen.port}`, dir: dirFor(), log: '', options: { listen, upstreams } },
        environment: {},
        start: async () => running,
      }),
    }
    const { parts, url } = planOf({ engines: [balancer, ...engines] })
    assert.equal(url, 'http://127.0.0.1:3000')
    const edge = optionsOf(parts, 'edge').listen as { port: number }
    assert.deepEqual(optionsOf(parts, 'balancer'), {
      listen: { host: '127.0.0.1', port: 3000 },
      upstreams: [{ name: 'edge', address: `127.0.0.1:${edge.port}` }],
    })
    const wave = (name: string) => parts.find((part) => part.name === name)!
    assert.ok(wave('edge').startWave < wave('balancer').startWave)
  })
})
