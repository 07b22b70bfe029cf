import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { parse } from 'yaml'
import { isRungError } from '../../src/kernel/errors.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import { rungs } from '../../src/topology/catalog.ts'
import { composeConfig, noCompose } from '../support/docker-compose.ts'
import { type Env, filesFor, rungNames } from '../support/exported.ts'
import { withTempDir } from '../support/postgres.ts'

interface Service {
  image: string
  environment?: Record<string, string>
  networks?: { default: { ipv4_address?: string } }
  volumes?: (string | { source: string })[]
  command?: string[]
}

const secrets = {
  RUNG_SECRET: 'a root of all keys, long enough to be one',
  POSTGRES_PASSWORD: 'superuser',
  DATABASE_PASSWORD: 'password-of-app',
  REDIS_PASSWORD: 'password-of-redis',
  NATS_PASSWORD: 'password-of-nats',
  RUNG_EDGE_SECRET: 'secret-of-edge',
}

/** What Docker Compose makes of it, with the secrets filled in, and what else is in `.env`. */
async function servicesOf(rung: string, env: Env = {}, filled: Env = {}): Promise<Record<string, Service>> {
  return withTempDir(async (dir) => {
    for (const [name, text] of Object.entries(filesFor('compose', rung, env))) {
      await mkdir(path.dirname(path.join(dir, name)), { recursive: true })
      await writeFile(path.join(dir, name), text)
    }
    const { status, output } = composeConfig(dir, { ...secrets, ...filled })
    assert.equal(status, 0, output)
    return parse(output).services
  })
}

describe('compose.yaml', { skip: noCompose }, () => {
  for (const rung of rungNames) {
    it(`is valid at ${rung}, and its processes read what it tells them`, async () => {
      const services = await servicesOf(rung)
      const apps = Object.entries(services).filter(([, { image }]) => image === 'notes:latest')
      assert.ok(apps.length >= 2)
      for (const [name, { environment = {} }] of apps) {
        const bindings = readBindings({ ...environment, HOST: '0.0.0.0', PORT: '3000' }, '/app')
        assert.equal(bindings.rung, rung)
        assert.equal(bindings.role, name.startsWith('web') ? 'web' : name === 'worker' ? 'worker' : 'both')
        assert.equal(bindings.secret, secrets.RUNG_SECRET)
        assert.ok(bindings.data.engine === 'external')
        assert.equal(bindings.data.url, 'postgres://app:password-of-app@postgres:5432/app')
        const { data, events } = rungs[rung]
        assert.equal(bindings.data.readUrls.length, data.replicas)
        assert.equal(bindings.data.poolerUrl !== undefined, data.pooler === 'pgbouncer')
        assert.equal(bindings.events.engine, events.engine)
        assert.equal(
          bindings.cache.shared?.urls[0],
          rung === '1k' ? undefined : 'redis://:password-of-redis@redis:6379',
        )
        assert.equal(bindings.edge?.url, rung === '1k' ? undefined : 'http://edge:9001')
        assert.deepEqual(bindings.files, { engine: 'disk', alone: false })
      }
    })
  }

  it('leaves out what runs elsewhere', async () => {
    const elsewhere = {
      DATABASE_URL: 'postgres://app:x@db.example.org/app',
      DATABASE_READ_URL: 'postgres://app:x@db-2.example.org/app',
      RUNG_REDIS_URL: 'redis://redis.example.org',
    }
    await assert.rejects(servicesOf('100k', elsewhere), /DATABASE_URL/) // which nobody has filled in
    const services = await servicesOf('100k', elsewhere, elsewhere)
    const names = ['balancer', 'edge', 'migrate', 'web-1', 'web-2', 'web-3', 'worker']
    assert.deepEqual(Object.keys(services).toSorted(), names)
    for (const name of names.slice(2)) {
      const bindings = readBindings({ ...services[name]!.environment, HOST: '0.0.0.0', PORT: '3000' }, '/app')
      assert.ok(bindings.data.engine === 'external')
      assert.deepEqual(
        [bindings.data.url, bindings.data.readUrls],
        [elsewhere.DATABASE_URL, [elsewhere.DATABASE_READ_URL]],
      )
      assert.equal(bindings.data.poolerUrl, undefined)
      assert.equal(bindings.cache.shared?.urls[0], elsewhere.RUNG_REDIS_URL)
    }
  })

  it('has as many processes as settings say', async () => {
    const services = await servicesOf('100k', { RUNG_WEB: '2', RUNG_WORKER: '3', RUNG_NODE_CPU: '0.5' })
    assert.deepEqual(
      Object.keys(services).filter((name) => name.startsWith('w')),
      ['web-1', 'web-2', 'worker'],
    )
    assert.equal((services.worker as unknown as { scale: number }).scale, 3)
    assert.equal(Number((services['web-1'] as unknown as { cpus: number }).cpus), 0.5)
    assert.equal(services['web-1']!.environment!.RUNG_WEB, '2')
  })
})

describe('files for Compose', () => {
  it('lead from the edge over the balancer to each process', () => {
    const files = filesFor('compose', '100k')
    const { services } = parse(files['compose.yaml']!, { merge: true }) as { services: Record<string, Service> }
    const at = (name: string) => services[name]!.networks!.default.ipv4_address
    assert.match(files['edge/nginx.conf']!, new RegExp(`server ${at('balancer')}:3000 max_fails=0;`))
    for (const name of ['web-1', 'web-2', 'web-3'])
      assert.match(files['haproxy.cfg']!, new RegExp(`server ${name} ${at(name)}:3000 check`))
  })

  it('run one NATS where events go over it, whatever the number of nodes elsewhere', () => {
    const files = filesFor('compose', '10k', { RUNG_EVENTS: 'jetstream', RUNG_NATS_NODES: '3' })
    const { services } = parse(files['compose.yaml']!, { merge: true }) as { services: Record<string, Service> }
    assert.ok(services.nats!.command!.includes('/etc/nats/nats.conf'))
    const { RUNG_NATS_URL: url, ...told } = services.worker!.environment!
    assert.equal(url, `nats://rung:\${NATS_PASSWORD:?}@nats:4222`)
    assert.deepEqual([told.RUNG_EVENTS, told.RUNG_NATS_NODES], ['jetstream', '1'])
    assert.match(files['.env.example']!, /^NATS_PASSWORD=$/m)
    assert.doesNotMatch(files['nats.conf']!, /password/)
    const elsewhere = filesFor('compose', '10k', {
      RUNG_EVENTS: 'jetstream',
      RUNG_NATS_URL: 'nats://me:hidden@nats.example.org',
    })
    assert.equal(elsewhere['nats.conf'], undefined)
    assert.match(elsewhere['.env.example']!, /^RUNG_NATS_URL=$/m)
    assert.doesNotMatch(Object.values(elsewhere).join(), /hidden/)
  })

  it('lead from the edge to the one process of 1k, too', () => {
    const files = filesFor('compose', '1k', { RUNG_EDGE: 'on' })
    const { services } = parse(files['compose.yaml']!, { merge: true }) as { services: Record<string, Service> }
    const address = services.app!.networks!.default.ipv4_address
    assert.match(files['edge/nginx.conf']!, new RegExp(`server ${address}:3000 max_fails=0;`))
  })

  it('believe the proxies that a setting or the app names, at whatever is the entry', () => {
    const files = (env: Env) =>
      filesFor('compose', '1k', { ...env, RUNG_TRUST_PROXY: '198.51.100.0/24' }, { trustedProxies: ['203.0.113.0/24'] })
    const nginx = files({ RUNG_EDGE: 'on' })['edge/nginx.conf']!
    const trusted = [...nginx.matchAll(/set_real_ip_from (\S+);/g)].map(([, network]) => network)
    assert.deepEqual(trusted, ['198.51.100.0/24', '203.0.113.0/24', '10.213.0.0/24'])
    const haproxy = files({ RUNG_BALANCER: 'on' })['haproxy.cfg']!
    assert.match(haproxy, /acl trusted src 198\.51\.100\.0\/24 203\.0\.113\.0\/24 10\.213\.0\.0\/24\n/)
  })

  it('make a new container of each engine whose files have changed, and of no other one', () => {
    const hashes = (env: Env) => {
      const { services } = parse(filesFor('compose', '100k', env)['compose.yaml']!, { merge: true }) as {
        services: Record<string, { labels?: Record<string, string> }>
      }
      return Object.entries(services).flatMap(([name, { labels }]) => (labels ? [[name, labels['rung.files']!]] : []))
    }
    const before = new Map(hashes({}) as [string, string][])
    const engines = ['edge', 'balancer', 'redis', 'pooler', 'postgres', 'postgres-2', 'postgres-3']
    assert.deepEqual([...before.keys()], engines)
    const changed = (env: Env) => hashes(env).flatMap(([name, hash]) => (hash === before.get(name!) ? [] : [name]))
    assert.deepEqual(changed({ LOG_LEVEL: 'debug' }), [])
    assert.deepEqual(changed({ RUNG_WEB: '2' }), ['balancer', 'pooler'])
    assert.deepEqual(changed({ RUNG_POOL_READ: '30' }), ['pooler', 'postgres', 'postgres-2', 'postgres-3'])
    assert.deepEqual(changed({ RUNG_CDN: 'fastly', RUNG_CDN_ID: 'a', RUNG_CDN_TOKEN: 'b' }), ['edge'])
  })

  it('are refused for several web processes without a balancer', () => {
    assert.throws(
      () => filesFor('compose', '10k', { RUNG_WEB: '2' }),
      (error) => isRungError(error, 'CONFIG_INVALID'),
    )
  })
})
