import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { defineTopology } from 'rung'
import { rungs } from '../../src/topology/catalog.ts'
import { topologyOf } from '../../src/topology/changes.ts'
import { describe } from '../../src/topology/describe.ts'

group('the topology of an app', () => {
  it('is that of the rung where nothing is said', () => {
    assert.deepEqual(topologyOf({ env: {} }), rungs['1k'])
    assert.deepEqual(topologyOf({ env: {}, options: { rung: '10k' } }), rungs['10k'])
    assert.deepEqual(topologyOf({ file: { rung: '10k' }, env: { PATH: '/bin', PORT: '' } }), rungs['10k'])
  })

  it('takes the command line before the environment, and that before the file', () => {
    const file = defineTopology({ rung: '10k', http: { port: 1 }, edge: 'off', cache: { url: 'redis://file' } })
    assert.equal(topologyOf({ file, env: {} }).http.port, 1)
    assert.equal(topologyOf({ file, env: { PORT: '2' } }).http.port, 2)
    assert.equal(topologyOf({ file, env: { PORT: '2' }, options: { 'http.port': '3' } }).http.port, 3)
    assert.equal(topologyOf({ file, env: {} }).edge.engine, 'none')
    assert.equal(topologyOf({ file, env: { RUNG_EDGE: 'on' } }).edge.engine, 'nginx')
    assert.equal(topologyOf({ file, env: {} }).cache.url, 'redis://file')
    assert.equal(
      topologyOf({ file, env: { RUNG_REDIS_URL: 'rediss://:a%40b@env:1/2' } }).cache.url,
      'rediss://:a%40b@env:1/2',
    )
  })

  it('names engines of yours', () => {
    const url = 'postgres://me:pw@db.example.org/app'
    const { data, cache } = topologyOf({ file: { data: { url }, cache: { url: 'redis://:pw@r:1' } }, env: {} })
    assert.deepEqual([data.engine, data.url, cache.engine], ['external', url, 'redis'])
    assert.equal(topologyOf({ env: { DATABASE_URL: 'postgres://app@/app?host=%2Ftmp' } }).data.engine, 'external')
  })

  it('is ended for its silence after half a minute, or as is said', () => {
    assert.equal(topologyOf({ env: {} }).silentMsMax, 30_000)
    assert.equal(topologyOf({ file: { silentMsMax: 0 }, env: {} }).silentMsMax, 0)
    assert.equal(topologyOf({ file: { silentMsMax: 0 }, env: { RUNG_SILENT_MS: '60000' } }).silentMsMax, 60_000)
  })

  it('has a CDN in front, whose token comes by the environment alone', () => {
    const file = defineTopology({ rung: '10k', cdn: { name: 'fastly', id: 'abc' } })
    const cdn = { name: 'fastly', id: 'abc', url: undefined, token: '' }
    assert.deepEqual(topologyOf({ file, env: {} }).cdn, cdn)
    assert.deepEqual(topologyOf({ file, env: { RUNG_CDN_TOKEN: 't' } }).cdn, { ...cdn, token: 't' })
    const env = { RUNG_CDN: 'cloudflare', RUNG_CDN_ID: 'zone', RUNG_CDN_URL: 'https://api.example.org/v4' }
    const own = { name: 'cloudflare', id: 'zone', url: 'https://api.example.org/v4', token: '' }
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

  const wrong: [what: string, sources: Parameters<typeof topologyOf>[0], says: RegExp][] = [
    [
      'a rung that is not there',
      { file: { rung: '100k' }, env: {} },
      /^rung of rung.config.ts is "100k"; it must be one of 1k, 10k\.$/,
    ],
    ['a word that means nothing', { file: { redis: {} }, env: {} }, /^rung.config.ts has "redis", which is no setting/],
    ['one deeper', { file: { cache: { uri: 'x' } }, env: {} }, /"cache.uri"/],
    [
      'a silence that is too short',
      { env: { RUNG_SILENT_MS: '500' } },
      /^RUNG_SILENT_MS is 500; it must be 0, for never, or a whole number from 1000 to 3600000\.$/,
    ],
    ['a value instead of a group', { file: { cache: 'redis://x' }, env: {} }, /"cache"/],
    ['no object', { file: null, env: {} }, /must export an object/],
    [
      'a number as text',
      { file: { http: { port: '80' } }, env: {} },
      /^http.port of rung.config.ts is "80"; it must be a whole number/,
    ],
    ['a port that is none', { env: { PORT: '70000' } }, /^PORT is 70000; it must be a whole number from 0 to 65535\.$/],
    ['half a process', { env: {}, options: { 'processes.web': '1.5' } }, /^--web is "1.5"/],
    [
      'a URL of another kind',
      { file: { cache: { url: 'http://:hidden@x' } }, env: {} },
      /^cache.url of rung.config.ts \(its value is not shown here\) must have/,
    ],
    ['a URL that is none', { env: { RUNG_REDIS_URL: 'redis://:hid/den@x:1' } }, /^RUNG_REDIS_URL \(its value/],
    ['a database of another kind', { env: { DATABASE_URL: 'mysql://hidden' } }, /^DATABASE_URL \(its value/],
    ['neither on nor off', { env: { RUNG_EDGE: 'yes' } }, /^RUNG_EDGE is "yes"; it must be one of on, off\.$/],
    [
      'a CDN that nobody knows',
      { file: { cdn: { name: 'akamai', id: 'x' } }, env: {} },
      /^cdn.name of rung.config.ts is "akamai"; it must be one of fastly, cloudflare, off\.$/,
    ],
    ['one without an id', { file: { cdn: { name: 'fastly' } }, env: {} }, /^A CDN needs the id of the service/],
    [
      'an id without a name',
      { env: { RUNG_CDN_ID: 'x' } },
      /^A CDN needs its name, one of fastly, cloudflare: cdn\.name/,
    ],
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
      /^rung.config.ts has "cdn.token"; take it out, and set RUNG_CDN_TOKEN/,
    ],
    [
      'several without an edge',
      { file: { rung: '10k', edge: 'off' }, env: { RUNG_WEB: '2' } },
      /^Several web processes need the edge/,
    ],
  ]
  for (const [what, sources, says] of wrong) {
    it(`refuses ${what}, in one sentence`, () => {
      assert.throws(
        () => topologyOf(sources),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID')
          assert.match(error.message, says)
          assert.doesNotMatch(error.message, /hid|\n/)
          return true
        },
      )
    })
  }

  it('can be told without its passwords', () => {
    const cdn = { RUNG_CDN: 'cloudflare', RUNG_CDN_ID: '023e105f4ecef8ad9ca31a8372d0c353', RUNG_CDN_TOKEN: 'hidden' }
    const env = { DATABASE_URL: 'postgres://me:hidden@db:5/app', RUNG_REDIS_URL: 'redis://:hidden@r:6', ...cdn }
    const parts = describe(topologyOf({ env, options: { rung: '10k' } }))
    assert.deepEqual(
      parts.map(({ part, count }) => [part, count]),
      [
        ['cdn', 0],
        ['edge', 1],
        ['web', 1],
        ['worker', 1],
        ['redis', 0],
        ['postgres', 0],
      ],
    )
    assert.doesNotMatch(JSON.stringify(parts), /hidden/)
    assert.match(JSON.stringify(parts), /db:5.*|r:6/)
    for (const { runs } of parts) assert.ok(runs.length <= 62, runs)
  })
})
