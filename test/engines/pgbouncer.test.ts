import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { pgbouncerConfig, pgbouncerVersion, poolsOf, serverOf } from '../../src/engines/pgbouncer/recipe.ts'
import { startPgbouncer } from '../../src/engines/pgbouncer/server.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { rungs } from '../../src/topology/catalog.ts'
import { poolerConnections } from '../../src/topology/topology.ts'
import { withDatabase } from '../../src/topology/urls.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { plannedOptions, planOf } from '../support/plan.ts'
import { testPostgres, withTempDir } from '../support/postgres.ts'

const topology = rungs['100k']

describe('the recipe of the pooler', () => {
  it('has a database for each target of each server, with its sessions', () => {
    const servers = ['postgres', 'postgres-2'].map((name) => ({
      name,
      server: serverOf(`postgres://app@/app?host=/${name}`),
    }))
    const text = pgbouncerConfig({
      dir: '/srv/pooler',
      pools: poolsOf(servers, poolerConnections(topology), topology.data),
      clientsMax: 10,
    })
    const names = [
      ...text.matchAll(/^(postgres\S*) = host='\/(\S+)' port='5432' dbname='app' user='app' pool_size='(\d+)'/gm),
    ]
    assert.deepEqual(
      names.map(([, name, host, size]) => [name, host, Number(size)]),
      ['postgres', 'postgres-2'].flatMap((server) => [
        [`${server}.read`, server, 20],
        [`${server}.write`, server, 20],
        [`${server}.own`, server, 6],
        [`${server}.reports`, server, 4],
      ]),
    )
    assert.match(text, /^postgres\.read = .*set statement_timeout = ''10000''.*default_transaction_read_only = ''on''/m)
    assert.doesNotMatch(/^postgres\.write = .*$/m.exec(text)![0], /read_only/)
    assert.match(text, /^server_tls_sslmode = prefer$/m)
    assert.match(text, /^pool_mode = transaction$/m)
    assert.equal(pgbouncerVersion('PgBouncer 1.18.0\nlibevent 2'), '1.18.0')
  })

  it('reads the URL of any Postgres, and refuses what would be lost', () => {
    const password = "it's %"
    const url = `postgres://me:${encodeURIComponent(password)}@db.example:6000/shop?sslmode=require`
    assert.deepEqual(serverOf(url), {
      ...{ host: 'db.example', port: 6000, user: 'me', password, database: 'shop', tls: 'require' },
    })
    const pools = poolsOf([{ name: 'postgres', server: serverOf(url) }], poolerConnections(topology), topology.data)
    const text = pgbouncerConfig({ dir: '/p', pools, clientsMax: 1 })
    assert.match(text, /password='it''s %'/)
    assert.match(text, /^server_tls_sslmode = require$/m)
    assert.throws(
      () => serverOf('postgres://me@db/shop?options=-c%20a%3Db'),
      (error) => isRungError(error, 'CONFIG_INVALID') && /cannot pass on "options"/.test(error.message),
    )
    assert.throws(
      () => serverOf('postgres://me:a%0Ab@db/x') && pgbouncerConfig({ dir: '/p\nx', pools: [], clientsMax: 1 }),
    )
  })

  it('knows all servers of a fleet, of Rung or of yours', () => {
    const hostsOf = (plan: ReturnType<typeof planOf>) => {
      const { pools } = plannedOptions(plan.parts, 'pooler') as { pools: { name: string; server: { host: string } }[] }
      return pools.filter(({ name }) => name.endsWith('.own')).map(({ name, server }) => [name, server.host])
    }
    const own = planOf({ options: { rung: '100k' } })
    assert.deepEqual(hostsOf(own), [
      ['postgres.own', '/srv/data/run'],
      ['postgres-2.own', '/srv/data/postgres-2/run'],
      ['postgres-3.own', '/srv/data/postgres-3/run'],
    ])
    const wave = (name: string) => own.parts.find((part) => part.name === name)!
    assert.ok(wave('postgres-3').startWave < wave('pooler').startWave)
    assert.ok(wave('pooler').startWave < wave('web-1').startWave)
    const env = { DATABASE_URL: 'postgres://a/x', DATABASE_READ_URL: 'postgres://b/x' }
    assert.deepEqual(hostsOf(planOf({ options: { rung: '100k' }, env })), [
      ['postgres.own', 'a'],
      ['postgres-2.own', 'b'],
    ])
  })
})

describe('PgBouncer', { skip: noPooler }, () => {
  it('shares few sessions, each with the settings of its target', async () => {
    const postgres = await testPostgres()
    const connection = await postgres.createDatabase()
    const { host, port, user, database } = connection as { host: string; port?: number; user: string; database: string }
    const server = { host, port: port ?? 5432, user, database, password: undefined, tls: undefined }
    const few = { read: 2, write: 2, own: 1, reports: 1 }
    try {
      await withTempDir(async (dir) => {
        const pooler = await startPgbouncer({
          ...{ dir: `${dir}/pooler`, clientsMax: 50 },
          pools: poolsOf(
            [
              { name: 'postgres', server },
              { name: 'postgres-2', server },
            ],
            few,
            topology.data,
          ),
        })
        try {
          const connect = (name: string) => connectOnce({ url: withDatabase(pooler.url, name), pooled: true })
          for (const [name, readOnly, timeout] of [
            ['postgres.read', 'on', '10s'],
            ['postgres-2.write', 'off', '10s'],
            ['postgres.own', 'off', '10s'],
            ['postgres-2.reports', 'on', '1min'],
          ] as const) {
            const client = await connect(name)
            const { rows } = await client.query(
              `select current_setting('default_transaction_read_only') as only, current_setting('statement_timeout') as timeout`,
            )
            await client.end()
            assert.deepEqual(rows, [{ only: readOnly, timeout }], name)
          }
          const clients = await Promise.all(Array.from({ length: 12 }, () => connect('postgres.write')))
          const answers = await Promise.all(
            clients.map((client) => client.query('select pg_backend_pid() as pid, pg_sleep(0.01)')),
          )
          const sessions = new Set(answers.map(({ rows }) => rows[0].pid))
          assert.ok(sessions.size <= few.write, `${sessions.size} sessions`)
          await Promise.all(clients.map((client) => client.end()))
          assert.equal(await pooler.isHealthy(), true)
        } finally {
          await pooler.stop()
        }
        assert.equal(await pooler.isHealthy(), false)
      })
    } finally {
      await postgres.stop()
    }
  })

  it('is not started where a running Postgres has too few connections for its pools', async () => {
    const postgres = await testPostgres()
    try {
      const { host, user, database } = await postgres.createDatabase()
      const DATABASE_URL = `postgres://${user}@/${database}?host=${encodeURIComponent(host!)}`
      const { parts } = planOf({ options: { rung: '100k' }, env: { DATABASE_URL, RUNG_POOL_READ: '1000' } })
      const pooler = parts.find(({ name }) => name === 'pooler')!
      assert.ok(pooler.kind === 'engine')
      const { signal } = new AbortController()
      await assert.rejects(
        pooler.start({
          ...{ report() {}, note() {}, mayReturn: async () => true, over: signal },
          ...{ requestTimeoutMs: 1_000, trustedProxies: [], routing: { groups: [], rules: [] } },
        }),
        (error) =>
          isRungError(error, 'CONFIG_INVALID') && /allows \d+ connections, and this topology/.test(error.message),
      )
    } finally {
      await postgres.stop()
    }
  })
})
