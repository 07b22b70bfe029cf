import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { defineTopology } from 'rung'
import { deploymentOf } from '../../src/fleet/deployment.ts'
import { engines } from '../../src/fleet/engines.ts'
import { bindingsOf } from '../../src/topology/bindings.ts'
import { rungs } from '../../src/topology/catalog.ts'
import { settingsInForce } from '../../src/topology/in-force.ts'
import {
  allSettings,
  environmentOf,
  fill,
  readGiven,
  readSettings,
  type Sources,
  withoutSettings,
} from '../../src/topology/read-settings.ts'
import { text, whole } from '../../src/topology/setting-types.ts'
import { setting } from '../../src/topology/settings.ts'
import { databaseConnections, poolerConnections } from '../../src/topology/topology.ts'
import { topologyOf as topologyFrom } from '../../src/topology/topology-of.ts'

const topologyOf = (sources: Sources) => topologyFrom(readSettings(sources))

describe('a secret', () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'rung-test-'))
  after(() => rmSync(dir, { recursive: true }))
  const file = (name: string, content: string) => {
    writeFileSync(path.join(dir, name), content)
    return path.join(dir, name)
  }

  it('may be in a file, whatever the setting is', () => {
    const secret = 's'.repeat(48)
    const env = {
      RUNG_SECRET_FILE: file('secret', `${secret}\n`),
      DATABASE_URL_FILE: file('url', 'postgres://me:pw@db/app'),
      DATABASE_READ_URL_FILE: file('urls', 'postgres://a/b, postgres://c/d\n'),
      RUNG_REDIS_URL_FILE: '',
    }
    const { values, given } = readSettings({ env })
    assert.deepEqual([values.process.secret, values.data.url], [secret, 'postgres://me:pw@db/app'])
    assert.deepEqual(values.data.readUrls, ['postgres://a/b', 'postgres://c/d'])
    assert.equal(given.get('data.url')!.called, 'DATABASE_URL_FILE')
    assert.deepEqual(withoutSettings({ ...env, PATH: '/bin' }), { PATH: '/bin' })
  })

  it('is refused where its file cannot be read, is empty or wrong, and is never shown', () => {
    const cases: [env: Record<string, string>, says: RegExp][] = [
      [{ RUNG_SECRET_FILE: '/nowhere' }, /^RUNG_SECRET_FILE names a file that cannot be read: ENOENT\. A/],
      [
        { RUNG_SMTP_URL_FILE: 'smtp://me:hidden@mail' },
        /^RUNG_SMTP_URL_FILE names a file that cannot be read: ENOENT\. A secret itself belongs in RUNG_SMTP_URL\.$/,
      ],
      [
        { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://me:hidden@otel' },
        /^OTEL_EXPORTER_OTLP_ENDPOINT is "https:\/\/…@otel"; it must be a URL without a user/,
      ],
      [{ RUNG_BACKUP_DIR: '/x\nExecStartPre=/bin/touch /tmp/y' }, /must name a folder, without line breaks/],
      [{ RUNG_SECRET_FILE: file('empty', ' \n') }, /^RUNG_SECRET_FILE names .*empty, which is empty\. Write/],
      [{ RUNG_SECRET_FILE: file('short', 'hidden') }, /^RUNG_SECRET_FILE must have at least 32 char.*not shown here/],
      [{ RUNG_SECRET_FILE: '/a', RUNG_SECRET: 's'.repeat(40) }, /^RUNG_SECRET and RUNG_SECRET_FILE are both set\./],
      [{ RUNG_WEB_FILE: '/a' }, /^RUNG_WEB_FILE is not a setting, because RUNG_WEB is no secret\. Set RUNG_WEB\.$/],
      [{ RUNG_SECRT_FILE: '/a' }, /^RUNG_SECRT_FILE is not a setting\. Write RUNG_SECRET_FILE\.$/],
      [{ RUNG_SECRET: `${'a'.repeat(40)}\nshort` }, /^RUNG_SECRET must have at least 32 characters in each line/],
      ...['2027-13-01', '2027-02-31', '2027-1-31', '2027-01-31T12:00Z', '31.01.2027', ''].map(
        (day) =>
          [
            { RUNG_SECRET: `${'a'.repeat(40)}\n${'b'.repeat(40)}@${day}` },
            /^RUNG_SECRET must have at least 32.*behind each @ of a further line a day \(2027-01-31\)/,
          ] as [Record<string, string>, RegExp],
      ),
      [{ RUNG_SECRET: `${'a'.repeat(40)}@2027-01-31` }, /^RUNG_SECRET must have at least 32/],
    ]
    for (const [env, message] of cases) {
      assert.throws(() => readSettings({ env }), { code: 'CONFIG_INVALID', message }, JSON.stringify(env))
    }
  })
})

describe('TLS', () => {
  const files = { RUNG_TLS_CERT: 'c.pem', RUNG_TLS_KEY: 'k.pem' }
  it('needs a certificate with its key, and something that speaks it', () => {
    const cases: [env: Record<string, string>, says: RegExp][] = [
      [{ RUNG_TLS_CERT: 'c.pem' }, /Set tls\.key in rung\.config\.ts, or RUNG_TLS_KEY\.$/],
      [{ RUNG_TLS_KEY: 'k.pem' }, /Set tls\.cert in rung\.config\.ts, or RUNG_TLS_CERT\.$/],
      [{ RUNG_HSTS_DAYS: '30' }, /^Only an app with TLS can ask clients to stay with it\. Set tls\.cert/],
      [{ RUNG_PLAIN_PORT: '80' }, /^A second port is for clients of an app with TLS\. Set tls\.cert/],
      [{ ...files, PORT: '80', RUNG_PLAIN_PORT: '80' }, /^Port 80 cannot be for http and https\./],
      [files, /^TLS ends at the edge or at the balancer, and here is neither\. Set edge /],
    ]
    for (const [env, message] of cases) {
      assert.throws(() => deploymentOf(readSettings({ env }), engines), { code: 'CONFIG_INVALID', message })
    }
    assert.throws(
      () => bindingsOf(readSettings({ env: files }), '/'),
      /^RungError: One process alone does not speak TLS/,
    )
    for (const env of [{ RUNG_EDGE: 'on' }, { RUNG_BALANCER: 'on' }, { RUNG_TOPOLOGY: '10k' }]) {
      assert.ok(topologyOf({ env: { ...files, ...env } }).tls)
      deploymentOf(readSettings({ env: { ...files, ...env } }), engines)
    }
  })
})

describe('the settings in force', () => {
  it('come from an option, the environment, the file, the rung, the mode, or are defaults; secrets are hidden', () => {
    const env = { RUNG_SECRET: 's'.repeat(40), RUNG_REDIS_URL: 'redis://:pw@r', LOG_LEVEL: 'warn', NODE_ENV: 'test' }
    const file = { limits: 'on', data: { lagMsMax: 1_000 } }
    const all = settingsInForce(readSettings({ file, env, options: { rung: '100k', port: '8080' } }))
    const of = (name: string) => {
      const { value, hidden, from, called } = all.find(({ setting }) => setting === name)!
      return [value, hidden, from, called]
    }
    assert.equal(all.length, allSettings.size)
    assert.deepEqual(of('http.port'), ['8080', false, 'option', '--port'])
    assert.deepEqual(of('log.level'), ['warn', false, 'environment', 'LOG_LEVEL'])
    assert.deepEqual(of('data.lagMsMax'), ['1000', false, 'file', 'data.lagMsMax of rung.config.ts'])
    assert.deepEqual(of('data.replicas'), ['2', false, 'rung', null])
    assert.deepEqual(of('processes.web'), ['3', false, 'rung', null])
    assert.deepEqual(of('shedding'), ['off', false, 'mode', null])
    assert.deepEqual(of('limits'), ['on', false, 'file', 'limits of rung.config.ts'])
    assert.deepEqual(of('backup.keep'), ['7', false, 'default', null])
    assert.deepEqual(of('data.url'), [null, false, 'default', null])
    assert.deepEqual(of('process.secret'), [null, true, 'environment', 'RUNG_SECRET'])
    assert.deepEqual(of('cache.url'), [null, true, 'environment', 'RUNG_REDIS_URL'])
    assert.doesNotMatch(JSON.stringify(all), /sssss|pw@/)
  })
})

describe('the topology of an app', () => {
  it('is that of the rung where nothing is said', () => {
    assert.deepEqual(topologyOf({ env: {} }), rungs['1k'])
    assert.deepEqual(topologyOf({ env: {}, options: { rung: '10k' } }), rungs['10k'])
    assert.deepEqual(topologyOf({ file: { rung: '10k' }, env: { PATH: '/bin', PORT: '' } }), rungs['10k'])
  })

  it('takes the command line before the environment, and that before the file', () => {
    const file = defineTopology({ rung: '10k', http: { port: 1 }, edge: 'off', cache: { url: 'redis://file' } })
    assert.equal(topologyOf({ file, env: {} }).http.port, 1)
    assert.equal(topologyOf({ file, env: { PORT: '2' } }).http.port, 2)
    assert.equal(topologyOf({ file, env: { PORT: '2' }, options: { port: '3' } }).http.port, 3)
    assert.equal(topologyOf({ file, env: {} }).edge.engine, 'none')
    assert.equal(topologyOf({ file, env: { RUNG_EDGE: 'on' } }).edge.engine, 'nginx')
    const { cache } = readSettings({ file, env: { RUNG_REDIS_URL: 'rediss://:a%40b@env:1/2' } }).values
    assert.equal(cache.url, 'rediss://:a%40b@env:1/2')
  })

  it('names engines of yours', () => {
    const url = 'postgres://me:pw@db.example.org/app'
    const file = { data: { url }, cache: { url: 'redis://:pw@r:1' } }
    const { data, cache } = topologyOf({ file, env: {} })
    assert.deepEqual([data.engine, cache.engine], ['external', 'external'])
    const bound = bindingsOf(readSettings({ file, env: {} }), '/')
    assert.deepEqual(
      [bound.data.engine === 'external' && bound.data.url, bound.cache.shared?.urls[0]],
      [url, file.cache.url],
    )
    assert.equal(topologyOf({ env: { DATABASE_URL: 'postgres://app@/app?host=%2Ftmp' } }).data.engine, 'external')
  })

  it('spreads keys over as many nodes of Redis as a setting says, otherwise as its URLs name', () => {
    const nodesOf = (env: Record<string, string>) => topologyOf({ env: { RUNG_TOPOLOGY: '10k', ...env } }).cache.nodes
    const RUNG_REDIS_URL = 'redis://a, redis://b,redis://c'
    assert.equal(nodesOf({}), 1)
    assert.equal(nodesOf({ RUNG_REDIS_NODES: '3' }), 3)
    assert.equal(nodesOf({ RUNG_REDIS_URL }), 3)
    assert.equal(nodesOf({ RUNG_REDIS_URL: 'redis://one-name-for-all', RUNG_REDIS_NODES: '5' }), 5)
    const { shared } = bindingsOf(readSettings({ env: { RUNG_REDIS_URL } }), '/').cache
    assert.deepEqual(shared, { engine: 'redis', urls: ['redis://a', 'redis://b', 'redis://c'], nodes: 3 })
  })

  it('has replicas, of its own Postgres or of yours, and a pooler', () => {
    const own = topologyOf({ env: { RUNG_POOLER: 'off' }, options: { rung: '100k', replicas: '3' } })
    assert.deepEqual([own.data.replicas, own.data.pooler, own.balancer.engine], [3, 'none', 'haproxy'])
    const env = { DATABASE_URL: 'postgres://a/b', DATABASE_READ_URL: 'postgres://c/b, postgres://d/b' }
    assert.equal(topologyOf({ env, options: { rung: '100k' } }).data.replicas, 2)
    const { data } = bindingsOf(readSettings({ env: { ...env, RUNG_POOLER_URL: 'postgres://p' } }), '/')
    assert.deepEqual([data.readUrls, data.poolerUrl], [['postgres://c/b', 'postgres://d/b'], 'postgres://p'])
    assert.deepEqual(bindingsOf(readSettings({ env: {} }), '/').data.readUrls, [])
  })

  it('needs fewer connections with a pooler, which has no more than the server allows', () => {
    const of = (env: Sources['env'], web: string) => {
      const topology = topologyOf({ env, options: { rung: '100k', web } })
      const pooled = Object.values(poolerConnections(topology)).reduce((sum, count) => sum + count)
      return { all: databaseConnections(topology), pooled }
    }
    const [few, many] = [of({}, '1'), of({}, '40')]
    assert.equal(many.pooled, few.pooled)
    assert.ok(many.all < of({ RUNG_POOLER: 'off' }, '40').all / 5)
    for (const { all, pooled } of [few, many]) assert.ok(pooled < all)
  })

  it('restarts a part that has not answered for half a minute, or as is said', () => {
    assert.equal(topologyOf({ env: {} }).unresponsiveAfterMs, 30_000)
    const file = { unresponsiveAfterMs: 0 }
    assert.equal(topologyOf({ file, env: {} }).unresponsiveAfterMs, 0)
    assert.equal(topologyOf({ file, env: { RUNG_UNRESPONSIVE_MS: '60000' } }).unresponsiveAfterMs, 60_000)
  })

  it('has a CDN in front, whose token comes by the environment alone', () => {
    const file = defineTopology({ rung: '10k', cdn: { name: 'fastly', id: 'abc' } })
    assert.deepEqual(topologyOf({ file, env: {} }).cdn, { name: 'fastly', id: 'abc' })
    const env = { RUNG_CDN: 'cloudflare', RUNG_CDN_ID: 'zone', RUNG_CDN_URL: 'https://api.example.org/v4' }
    const own = { name: 'cloudflare', id: 'zone' }
    assert.deepEqual(topologyOf({ file, env }).cdn, own)
    assert.deepEqual(topologyOf({ env }).cdn, own)
    assert.equal(topologyOf({ file, env: { RUNG_CDN: 'off' } }).cdn, undefined)
    assert.equal(topologyOf({ env: { RUNG_CDN_TOKEN: 't' } }).cdn, undefined)
  })

  it('splits the one process where the number of either is said', () => {
    assert.deepEqual(topologyOf({ env: { RUNG_WEB: '3' }, options: { rung: '10k' } }).processes, {
      both: 0,
      web: 3,
      worker: 1,
    })
    assert.deepEqual(topologyOf({ file: { processes: { worker: 2 } }, env: {} }).processes, {
      both: 0,
      web: 1,
      worker: 2,
    })
  })
})

describe('what carries events', () => {
  const eventsOf = (env: Sources['env']) => topologyOf({ env }).events
  it('is the table below 500k, or a broker where there is one', () => {
    assert.deepEqual(eventsOf({}), { engine: 'table', nodes: 1 })
    assert.deepEqual(eventsOf({ RUNG_EVENTS: 'jetstream', RUNG_NATS_NODES: '3' }), { engine: 'jetstream', nodes: 3 })
    assert.deepEqual(eventsOf({ RUNG_NATS_URL: 'nats://n' }), { engine: 'external', nodes: 1 })
    assert.deepEqual(eventsOf({ RUNG_NATS_URL: 'nats://n', RUNG_EVENTS: 'table' }), { engine: 'table', nodes: 1 })
    assert.throws(
      () => eventsOf({ RUNG_NATS_URL: 'nats://me:hidden@' }),
      /^RungError: RUNG_NATS_URL must have(?!.*hidden)/,
    )
  })

  it('is told to a process with the limits of its stream', () => {
    const { events } = bindingsOf(
      readSettings({
        env: { RUNG_NATS_URL: 'nats://a,nats://b,nats://c', RUNG_NATS_NODES: '3', RUNG_EVENTS_MIB: '64' },
      }),
      '/srv',
    )
    assert.deepEqual(events, {
      engine: 'jetstream',
      url: 'nats://a,nats://b,nats://c',
      stream: { bytesMax: 64 * 1024 ** 2, ageMsMax: 600_000, replicas: 3 },
      keptMs: 86_400_000,
    })
  })
})

describe('the bindings of a process', () => {
  const bound = (env: Sources['env'], options: Sources['options'] = {}, file?: unknown) =>
    bindingsOf(readSettings({ env, options, file }), '/srv')

  it('are complete, or the start is refused', () => {
    assert.throws(
      () => bound({ RUNG_TOPOLOGY: '10k' }),
      /^RungError: Rung 10k needs Redis\. .*RUNG_REDIS_URL.*RUNG_TOPOLOGY=1k/,
    )
    assert.throws(() => bound({ RUNG_EVENTS: 'jetstream' }), /Events over a broker need NATS\. .*RUNG_NATS_URL/)
    const cdn = { cdn: { name: 'fastly', id: 'x' } }
    assert.throws(() => bound({}, {}, cdn), /A CDN needs RUNG_CDN_TOKEN/)
    assert.equal(bound({ RUNG_CDN_TOKEN: 't' }, {}, cdn).cdn?.token, 't')
  })

  it('give a worker a port of its own, unless one is named for it', () => {
    const file = { http: { port: 8080 } }
    assert.equal(bound({}, { role: 'web' }, file).http.port, 8080)
    assert.equal(bound({}, { role: 'worker' }, file).http.port, 0)
    assert.equal(bound({ PORT: '9000' }, { role: 'worker' }, file).http.port, 9000)
  })

  it('have folders that are absolute, and defaults of their mode', () => {
    const { dataDir, backup, limits } = bound({ NODE_ENV: 'test', RUNG_BACKUP_DIR: 'b' })
    assert.deepEqual([dataDir, backup.dir, limits], ['/srv/.rung', '/srv/b', 'off'])
  })
})

describe('the table of settings', () => {
  it('has each name once', () => {
    const variables = [...allSettings.values()].map(({ variable }) => variable)
    assert.deepEqual(variables, [...new Set(variables)])
    const options = [...allSettings.values()].flatMap(({ option }) => option ?? [])
    assert.deepEqual(options, [...new Set(options)])
  })

  it('writes values for a child process that reads them back', () => {
    const file = {
      rung: '10k',
      processes: { web: 2 },
      log: { sample: 0.25 },
      http: { trustProxy: ['10.0.0.0/8', '::1'] },
    }
    const settings = readSettings({ file, env: { RUNG_GRACE_MS: '5' } })
    const again = readSettings({ env: environmentOf(settings.given) })
    assert.deepEqual(again.values, settings.values)
  })

  it('may be that of a module of the app', () => {
    const table = { payment: { triesMax: setting(whole(1, 9), { env: 'PAYMENT_TRIES', default: 3, help: 'Tries.' }) } }
    const read = (env: Sources['env']) =>
      fill(table, readGiven(table, { env }), (row) => row.default({ preset: rungs['1k'], mode: 'test' }))
    assert.equal(read({}).payment.triesMax, 3)
    assert.equal(read({ PAYMENT_TRIES: '5' }).payment.triesMax, 5)
    assert.throws(() => read({ PAYMENT_TRIES: '10' }), /PAYMENT_TRIES is "10"; it must be a whole number from 1 to 9\./)
  })
})

describe('a setting that is wrong', () => {
  const wrong: [what: string, sources: Sources, says: RegExp][] = [
    [
      'a rung that is not there',
      { file: { rung: '100m' }, env: {} },
      /^rung of rung.config.ts is "100m"; it must be one of 1k, 10k, 100k, 500k\.$/,
    ],
    [
      'a word that means nothing',
      { file: { redis: {} }, env: {} },
      /^rung.config.ts has "redis", which is not a setting/,
    ],
    [
      'a path with a typing error',
      { file: { http: { prot: 1 } }, env: {} },
      /"http.prot", which is not a setting. Write http.port\.$/,
    ],
    [
      'a variable with a typing error',
      { env: { RUNG_LIMIT: 'on' } },
      /^RUNG_LIMIT is not a setting. Write RUNG_LIMITS\.$/,
    ],
    ['one deeper', { file: { cache: { uri: 'x' } }, env: {} }, /"cache.uri"/],
    [
      'a silence that is too short',
      { env: { RUNG_UNRESPONSIVE_MS: '500' } },
      /^RUNG_UNRESPONSIVE_MS is "500"; it must be 0, for never, or a whole number from 1000 to 3600000\.$/,
    ],
    ['a value instead of a group', { file: { cache: 'redis://x' }, env: {} }, /"cache"/],
    ['no object', { file: null, env: {} }, /must export an object/],
    [
      'a number as text',
      { file: { http: { port: '80' } }, env: {} },
      /^http.port of rung.config.ts is "80"; it must be a whole number/,
    ],
    [
      'a port that is none',
      { env: { PORT: '70000' } },
      /^PORT is "70000"; it must be a whole number from 0 to 65535\.$/,
    ],
    ['half a process', { env: {}, options: { web: '1.5' } }, /^--web is "1.5"/],
    [
      'a URL of another kind',
      { file: { cache: { url: 'http://:hidden@x' } }, env: {} },
      /^cache.url of rung.config.ts must have the form .*\(its value is not shown here\)\.$/,
    ],
    [
      'a database that a cluster does not have',
      { env: { RUNG_REDIS_URL: 'redis://a/1,redis://b' } },
      /^RUNG_REDIS_URL must/,
    ],
    ['a URL that is none', { env: { RUNG_REDIS_URL: 'redis://:hid/den@x:1' } }, /^RUNG_REDIS_URL must have/],
    ['a database of another kind', { env: { DATABASE_URL: 'mysql://hidden' } }, /^DATABASE_URL must have/],
    [
      'a replica of another kind',
      { env: { DATABASE_URL: 'postgres://a/b', DATABASE_READ_URL: 'postgres://a/b,hidden' } },
      /^DATABASE_READ_URL must be a list/,
    ],
    [
      'replicas of no primary',
      { env: { DATABASE_READ_URL: 'postgres://hidden' } },
      /^Replicas need the URL of their primary\. Set data\.url/,
    ],
    ['neither on nor off', { env: { RUNG_EDGE: 'yes' } }, /^RUNG_EDGE is "yes"; it must be one of on, off\.$/],
    [
      'a CDN that nobody knows',
      { file: { cdn: { name: 'akamai', id: 'x' } }, env: {} },
      /^cdn.name of rung.config.ts is "akamai"; it must be one of fastly, cloudflare, off\.$/,
    ],
    ['one without an id', { file: { cdn: { name: 'fastly' } }, env: {} }, /^A CDN needs the id of its service/],
    ['an id without a name', { env: { RUNG_CDN_ID: 'x' } }, /^A CDN needs its name\. Set cdn\.name/],
    [
      'an id that is none',
      { file: { cdn: { name: 'fastly', id: 'a/b' } }, env: {} },
      /^cdn.id of rung.config.ts is "a\/b"/,
    ],
    [
      'a purge API with a slash at its end',
      { file: { cdn: { name: 'fastly', id: 'x', url: 'https://api.example.org/' } }, env: {} },
      /^cdn.url of rung.config.ts is .* without a slash at its end\.$/,
    ],
    [
      'a token in a file',
      { file: { cdn: { name: 'fastly', id: 'x', token: 'hidden' } }, env: {} },
      /^rung.config.ts has "cdn.token"\. Remove it, and set RUNG_CDN_TOKEN/,
    ],
    [
      'several without an edge',
      { file: { rung: '10k', edge: 'off' }, env: { RUNG_WEB: '2' } },
      /^Several web processes need the edge or a balancer/,
    ],
  ]
  for (const [what, sources, says] of wrong) {
    it(`refuses ${what}, in one sentence`, () => {
      assert.throws(
        () => deploymentOf(readSettings(sources), engines),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID')
          assert.match(error.message, says)
          assert.doesNotMatch(error.message, /hid|\n/)
          return true
        },
      )
    })
  }

  it('leads nowhere outside if its data directory is isolated', () => {
    const named = [...allSettings].filter(([path]) => /url$|Urls$|secret$|token$|^backup\.dir$|endpoint$/i.test(path))
    assert.deepEqual(
      named.filter(([, { outside }]) => !outside).map(([path]) => path),
      [],
    )
    const file = { data: { url: 'postgres://a/b', replicas: 1 }, mail: { url: 'smtp://m', from: 'a@b.test' } }
    const env = { RUNG_SECRET: 'x'.repeat(32), RUNG_CDN: 'fastly', RUNG_CDN_ID: 'x', RUNG_WEB: '2' }
    const { given, leftOut } = readSettings({ file, env, isolated: true })
    assert.deepEqual([...given.keys()].sort(), ['data.replicas', 'mail.from', 'processes.web'])
    assert.deepEqual(leftOut.toSorted(), [
      ...['RUNG_CDN', 'RUNG_CDN_ID', 'RUNG_SECRET', 'data.url of rung.config.ts', 'mail.url of rung.config.ts'],
    ])
    assert.deepEqual(readSettings({ file, env }).leftOut, [])
    // @ts-expect-error The author of a setting that may name a system must say whether it does.
    setting(text(Boolean, 'be anything'), { env: 'X', help: 'X.' })
  })

  it('can be told without its passwords', () => {
    const cdn = { RUNG_CDN: 'cloudflare', RUNG_CDN_ID: '023e105f4ecef8ad9ca31a8372d0c353', RUNG_CDN_TOKEN: 'hidden' }
    const env = { DATABASE_URL: 'postgres://me:hidden@db:5/app', RUNG_REDIS_URL: 'redis://:hidden@r:6', ...cdn }
    const parts = deploymentOf(readSettings({ env, options: { rung: '10k' } }), engines).parts
    assert.deepEqual(
      parts.map(({ name, count }) => [name, count]),
      [
        ['cdn', 0],
        ['edge', 1],
        ['web', 1],
        ['worker', 1],
        ['redis', 0],
        ['postgres', 0],
      ],
    )
    const words = parts.map(({ runs }) => runs).join()
    assert.doesNotMatch(words, /hidden/)
    assert.match(words, /r:6.*db:5/)
    for (const { runs } of parts) assert.ok(runs.length <= 62, runs)
  })
})
