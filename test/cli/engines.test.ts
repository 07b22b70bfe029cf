import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { main } from '../../src/cli/main.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noNats } from '../support/nats.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { noRedis } from '../support/redis.ts'

const bin = fileURLToPath(new URL('../../src/cli/bin.js', import.meta.url))

async function rung(...args: string[]) {
  const lines: string[] = []
  const notes: string[] = []
  let document: unknown
  const code = await main(args, {}, '/', {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void notes.push(text),
    json: (value) => {
      document = value
    },
  })
  return { code, lines, notes: notes.join('\n'), document: document as never }
}

test('rung engines lists what rungs need', async () => {
  const { code, lines } = await rung('engines')
  assert.equal(code, 0)
  assert.match(lines[0]!, /^engine +from +version +where$/)
  for (const [index, start] of [
    'postgres   1k ',
    'pgbouncer  100k',
    'nats       500k',
    'redis      10k ',
    'haproxy    100k',
    'nginx      10k ',
  ].entries())
    assert.ok(lines[index + 1]!.startsWith(start), lines[index + 1])
  assert.ok(lines.every((line) => line.length <= 80))
  assert.deepEqual((await rung('engines', 'list')).lines, lines)
  assert.equal((await rung('engines', 'list', 'redis')).code, 1)
  const { document } = await rung('engines', '--json')
  const engines = (document as { engines: Record<string, unknown>[] }).engines
  assert.deepEqual(
    engines.map(({ engine, from }) => [engine, from]),
    [
      ['postgres', '1k'],
      ['pgbouncer', '100k'],
      ['nats', '500k'],
      ['redis', '10k'],
      ['haproxy', '100k'],
      ['nginx', '10k'],
    ],
  )
  for (const one of engines)
    assert.deepEqual(Object.keys(one), ['engine', 'from', 'product', 'version', 'path', 'problem'])
})

test('rung engines install: what is there stays as it is', {
  skip: noRedis || noNginx || noHaproxy || noPooler || noNats,
}, async () => {
  const { code, lines, notes } = await rung('engines', 'install')
  assert.equal(code, 0)
  assert.match(lines[0]!, /^PgBouncer \d/)
  assert.match(lines[1]!, /^NATS \d/)
  assert.match(lines[2]!, /^(Redis|Valkey) \d/)
  assert.match(lines[3]!, /^HAProxy \d/)
  assert.match(lines[4]!, /^(nginx|OpenResty) \d/)
  assert.equal(notes, '')
  const { document } = await rung('engines', 'install', 'redis', '--json')
  assert.deepEqual((document as { installed: unknown }).installed, [])
})

test('rung engines: wrong words', async () => {
  for (const [args, message] of [
    [['remove'], /There is no "remove" here/],
    [['install', 'mysql'], /There is no engine "mysql"\. Can be installed: pgbouncer, nats, redis, haproxy, nginx\./],
    [['install', 'postgres'], /Postgres comes with Rung itself/],
  ] as const) {
    const { code, notes } = await rung('engines', ...args)
    assert.equal(code, 1)
    assert.match(notes, message)
  }
})

test('rung engines install where it may not: the commands, and an end with 1', async (t) => {
  // In namespaces of its own: without redis-server, and not root.
  const hide = 'for f in "$1" "$2"; do [ ! -e "$f" ] || mount --bind /dev/null "$f"; done; shift 2'
  const script = `${hide}; exec unshare --user --map-user=1000 --map-group=1000 "$@"`
  const hidden = ['/usr/bin/redis-server', '/usr/bin/valkey-server']
  const command = [process.execPath, '--conditions=rung-source', bin, 'engines']
  const run = (...args: string[]) =>
    spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', ...hidden, ...command, ...args], { encoding: 'utf8' })
  if (process.getuid?.() !== 0 || process.platform !== 'linux') return t.skip('only root on Linux can hide a program')
  const list = run()
  assert.match(list.stdout, /^redis +10k +missing$/m)
  assert.match(list.stdout, /^To install: rung engines install redis/m)
  const install = run('install', 'redis')
  assert.equal(install.status, 1)
  assert.match(install.stderr, /ENGINE_MISSING/)
  for (const line of ['sudo apt-get install redis-server', 'brew install redis', 'docker pull redis:7'])
    assert.ok(install.stderr.includes(line), install.stderr)
  const { error } = JSON.parse(run('install', 'redis', '--json').stdout)
  assert.deepEqual([error.code, error.missing], ['ENGINE_MISSING', ['redis']])
})
