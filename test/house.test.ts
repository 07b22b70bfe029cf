import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { errorCodes } from '../src/kernel/errors.ts'

/** The rules of the house, as a test. A folder imports only from folders with a lower number, and from itself. */
const floors: Record<string, number> = {
  kernel: 0,
  topology: 1,
  engines: 2,
  primitives: 3,
  app: 4,
  backup: 4,
  migrations: 4,
  runtime: 5,
  chaos: 7,
  console: 8,
  prove: 8,
  doctor: 7,
  export: 7,
  observe: 6,
  planner: 6,
  fleet: 6,
  history: 6,
  load: 6,
  stateless: 6,
  testing: 7,
  cli: 9,
}
/** `primitives/*` are rooms beside each other; so are `engines/*`. None imports another. */
const separateRooms = ['primitives', 'engines']
/** But everything rides the commit, and deliveries are worked off like jobs. */
const roomsBelow: Record<string, readonly string[]> = {
  'primitives/jobs': ['primitives/data'],
  'primitives/search': ['primitives/data'],
  'primitives/cache': ['primitives/data', 'primitives/http', 'primitives/signals', 'primitives/upkeep'],
  'primitives/signals': ['primitives/data'],
  'primitives/upkeep': ['primitives/data'],
  'primitives/positions': ['primitives/http'],
  'primitives/events': ['primitives/data', 'primitives/jobs', 'primitives/upkeep'],
  'primitives/idempotency': ['primitives/data', 'primitives/http'],
  'primitives/limits': ['primitives/data', 'primitives/http'],
  'primitives/sessions': ['primitives/data', 'primitives/http'],
  // Programs as processes: how they are found, started and ended is the same for each.
  'engines/postgres': ['engines/disk', 'engines/process'],
  'engines/redis': ['engines/process'],
  'engines/nats': ['engines/process'],
  'engines/cdn': ['engines/process'],
  'engines/nginx': ['engines/process'],
  // Its refusals are those of the edge, and it makes the sessions that the client of Postgres expects.
  'engines/haproxy': ['engines/process', 'engines/nginx'],
  'engines/pgbouncer': ['engines/process', 'engines/postgres'],
  // To tell whether the process that owns a draft still runs.
  'engines/disk': ['engines/process'],
}
/** Files of src/ itself: the doors of the package. They may import everything below the cli. */
const doors = ['index.ts', 'testing.ts', 'history.ts', 'load.ts', 'prove.ts']

/** Which npm package may be imported where; `type` imports are free. */
const clients: Record<string, RegExp> = {
  ioredis: /^engines\/redis\/client\.ts$/,
  '@nats-io/': /^engines\/nats\/client\.ts$/,
  pg: /^engines\/postgres\/client\.ts$/,
  acorn: /^stateless\/parse\.ts$/,
  'libpg-query': /^engines\/postgres\/parser\.ts$/,
  fastify: /^primitives\/http\//,
  '@fastify/': /^primitives\/http\//,
  ajv: /^kernel\/schema|^primitives\/http\//,
  'ajv-formats': /^kernel\/schema|^primitives\/http\//,
  typebox: /^app\/|^primitives\/jobs\//,
  cockatiel: /^primitives\/outgoing\/guard\.ts$/,
  'lru-cache': /^primitives\/cache\/bounded\.ts$/,
  croner: /^primitives\/jobs\/cron\.ts$/,
  nodemailer: /^engines\/smtp\/client\.ts$/,
  'file-type': /^primitives\/files\/content-type\.ts$/,
  pino: /^runtime\/log\.ts$/,
  'prom-client': /^observe\/figures\.ts$/,
  '@opentelemetry/': /^observe\/(traces\/otlp|export-logs)\.ts$/,
}
/** Loaded only where they are used: never by a plain import. */
const lazy = [
  'acorn',
  'ioredis',
  '@nats-io/transport-node',
  '@nats-io/jetstream',
  'libpg-query',
  'cockatiel',
  '@opentelemetry/sdk-trace',
  '@opentelemetry/exporter-trace-otlp-http',
  '@opentelemetry/sdk-logs',
  '@opentelemetry/exporter-logs-otlp-http',
  '@fastify/swagger-ui',
  'nodemailer',
  'nodemailer/lib/mail-composer',
  'file-type',
]

/** Adapters of the primitives, and the suite that each must pass. */
const adapters: Record<string, string> = {
  'primitives/data/postgres.ts': 'data',
  'primitives/jobs/table.ts': 'jobs',
  'primitives/jobs/foreign-table.ts': 'foreign-claims',
  'primitives/events/table.ts': 'events',
  'primitives/events/log.ts': 'events',
  'primitives/events/jetstream.ts': 'events',
  'primitives/search/table.ts': 'search',
  'primitives/search/apart.ts': 'search',
  'primitives/cache/table.ts': 'cache',
  'primitives/cache/redis.ts': 'cache',
  'primitives/cache/nginx.ts': 'cache',
  'primitives/positions/memory.ts': 'positions',
  'primitives/positions/redis.ts': 'positions',
  'primitives/files/disk.ts': 'files',
  'primitives/files/s3.ts': 'files',
  'primitives/mail/eml.ts': 'mail',
  'primitives/mail/smtp.ts': 'mail',
  'primitives/idempotency/table.ts': 'idempotency',
  'primitives/limits/memory.ts': 'limits',
  'primitives/limits/table.ts': 'limits',
  'primitives/limits/redis.ts': 'limits',
  'primitives/sessions/table.ts': 'sessions',
  'primitives/sessions/redis.ts': 'sessions',
  'primitives/signals/notify.ts': 'signals',
  'primitives/signals/redis.ts': 'signals',
  'primitives/upkeep/table.ts': 'upkeep',
}

/** Holds the text of another app's files. */
const template = 'cli/scaffold.ts'

/** Time, chance and the environment come through the kernel, and enter at the edge. */
const impure: [pattern: RegExp, allowed: RegExp][] = [
  [/\bDate\.now\(|\bnew Date\(\)|\bsetTimeout\(|\bsetInterval\(/, /^kernel\/clock\.ts$/],
  [/\bMath\.random\(/, /^kernel\/random\.ts$/],
  [
    /\bprocess\.env\b/,
    /^cli\/bin\.js$|^runtime\/open-data\.ts$|^testing\/test-app\.ts$|^engines\/process\/fake-clock\.ts$/,
  ],
]

const root = path.resolve(import.meta.dirname, '..')
const src = path.join(root, 'src')
const files = globSync('**/*.{ts,js}', { cwd: src })
  .map((file) => file.split(path.sep).join('/'))
  .filter((file) => !file.startsWith('console/page/')) // runs in a browser, and is served as it is
  .sort()
const text = new Map(files.map((file) => [file, readFileSync(path.join(src, file), 'utf8')]))

interface Import {
  from: string
  typeOnly: boolean
  dynamic: boolean
}

function importsOf(file: string): Import[] {
  if (file === template) return []
  const code = text.get(file)!
  const plain = [...code.matchAll(/^(import|export)( type)?\b[^'"`;]*?from '([^']+)'/gm)].map((match) => ({
    from: match[3]!,
    typeOnly: match[2] !== undefined,
    dynamic: false,
  }))
  const bare = [...code.matchAll(/^import '([^']+)'/gm)].map((match) => ({
    from: match[1]!,
    typeOnly: false,
    dynamic: false,
  }))
  const dynamic = [...code.matchAll(/\bimport\('([^']+)'\)/g)].map((match) => ({
    from: match[1]!,
    typeOnly: false,
    dynamic: true,
  }))
  return [...plain, ...bare, ...dynamic]
}

const isOwn = (name: string) => name.startsWith('.')
const resolve = (file: string, name: string) => path.posix.normalize(path.posix.join(path.posix.dirname(file), name))
const folderOf = (file: string) => file.split('/')[0]!
const roomOf = (file: string) => file.split('/').slice(0, 2).join('/')

function ownImports(file: string): string[] {
  return importsOf(file)
    .filter(({ from }) => isOwn(from))
    .map(({ from }) => resolve(file, from))
}

test('every folder has its floor', () => {
  const unknown = files.filter((file) => !doors.includes(file) && floors[folderOf(file)] === undefined)
  assert.deepEqual(unknown, [])
})

test('imports point down', () => {
  const wrong: string[] = []
  for (const file of files) {
    if (doors.includes(file)) continue
    for (const target of ownImports(file)) {
      if (doors.includes(target)) wrong.push(`${file} imports the door ${target}`)
      else if (folderOf(target) !== folderOf(file) && floors[folderOf(target)]! >= floors[folderOf(file)]!)
        wrong.push(`${file} → ${target}`)
      else if (
        separateRooms.includes(folderOf(file)) &&
        folderOf(target) === folderOf(file) &&
        roomOf(target) !== roomOf(file) &&
        !roomsBelow[roomOf(file)]?.includes(roomOf(target))
      )
        wrong.push(`${file} → ${target}`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('the fleet starts processes, and knows nothing of what runs in them', () => {
  const inside = /^(app|primitives|runtime|observe)\//
  const wrong = files
    .filter((file) => file.startsWith('fleet/'))
    .flatMap((file) => ownImports(file).filter((target) => inside.test(target)))
  assert.deepEqual(wrong, [])
})

test('the planner is pure: numbers in, sentences out', () => {
  const wrong = files
    .filter((file) => file.startsWith('planner/'))
    .flatMap((file) => importsOf(file).filter(({ from }) => !/^\.\/|^\.\.\/(kernel|topology)\//.test(from)))
  assert.deepEqual(wrong, [])
})

test('there is no circle of imports', () => {
  const done = new Set<string>()
  function walk(file: string, way: string[]): void {
    if (way.includes(file)) assert.fail([...way.slice(way.indexOf(file)), file].join(' → '))
    if (done.has(file)) return
    for (const target of ownImports(file)) walk(target, [...way, file])
    done.add(file)
  }
  for (const file of files) walk(file, [])
})

test('no file is dead', () => {
  const reached = new Set<string>([...doors, 'cli/bin.js', 'kernel/own-text.ts'])
  for (const file of reached) for (const target of ownImports(file)) reached.add(target)
  assert.deepEqual(
    files.filter((file) => !reached.has(file)),
    [],
  )
})

test('npm packages are imported where they belong, and heavy ones lazily', () => {
  const wrong: string[] = []
  for (const file of files) {
    for (const { from, typeOnly, dynamic } of importsOf(file)) {
      if (isOwn(from) || from.startsWith('node:') || typeOnly) continue
      const [, allowed] =
        Object.entries(clients).find(
          ([name]) => from === name || from.startsWith(name.endsWith('/') ? name : `${name}/`),
        ) ?? []
      if (!allowed?.test(file)) wrong.push(`${file} imports ${from}`)
      if (!dynamic && lazy.includes(from)) wrong.push(`${file} loads ${from} at once`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('every adapter is wired, and passes its contract', () => {
  const wiring = text.get('runtime/wire.ts')!
  for (const [adapter, contract] of Object.entries(adapters)) {
    assert.ok(text.has(adapter), `${adapter} does not exist`)
    const name = path.posix.basename(adapter)
    assert.ok(wiring.includes(adapter), `${name} is not in runtime/wire.ts`)
    const run = globSync(`test/contracts/${contract}{,-*}.test.ts`, { cwd: root })
      .map((file) => readFileSync(path.join(root, file), 'utf8'))
      .join()
    assert.ok(
      run.includes(path.posix.basename(name, '.ts')),
      `${name} is in no run of the contract suite "${contract}"`,
    )
    const importers = files.filter((file) => ownImports(file).includes(adapter))
    assert.deepEqual(importers, ['runtime/wire.ts'], `${name} is imported elsewhere`)
  }
})

test('time, chance and the environment come through their doors', () => {
  const wrong: string[] = []
  for (const file of files) {
    const code = text.get(file)!.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
    for (const [pattern, allowed] of impure)
      if (pattern.test(code) && !allowed.test(file)) wrong.push(`${file}: ${pattern.exec(code)![0]}`)
  }
  assert.deepEqual(wrong, [])
})

test('every error code is documented, raised, and nothing else is', () => {
  const documented = [...readFileSync(path.join(root, 'docs/errors.md'), 'utf8').matchAll(/^### `([A-Z_]+)`/gm)].map(
    (match) => match[1]!,
  )
  assert.deepEqual([...documented].sort(), Object.keys(errorCodes).sort())
  const everything = [...text]
    .filter(([file]) => file !== 'kernel/errors.ts')
    .map(([, code]) => code)
    .join('\n')
  assert.deepEqual(
    Object.keys(errorCodes).filter((code) => !everything.includes(`'${code}'`)),
    [],
  )
})

test('every primitive has a contract of at most ten members', () => {
  for (const file of files.filter((name) => name.endsWith('/contract.ts'))) {
    for (const [, name, body] of text.get(file)!.matchAll(/^export interface (\w+).*\{\n([\s\S]*?)^\}/gm)) {
      if (name!.endsWith('Options')) continue // what the app author may set, not what an adapter must offer
      const members = body!.match(/^ {2}(readonly |get )?\w+\??[(:<]/gm) ?? []
      assert.ok(members.length <= 10, `${name} of ${file} has ${members.length} members`)
    }
  }
})

test('no module is named in a string: the build would leave its .ts as it is', () => {
  const wrong = files.filter((file) => /^[^/*\n]*new URL\(\s*['"`][^'"`]*\.ts['"`]/m.test(text.get(file)!))
  assert.deepEqual(wrong, [])
})

test('examples and benches know the package by its name only', () => {
  const outside = globSync('examples/**/*.ts', { cwd: root, exclude: (name) => name === 'node_modules' })
  const wrong = outside.filter((file) => /from '(\.\.\/)+src\//.test(readFileSync(path.join(root, file), 'utf8')))
  assert.deepEqual(wrong, [])
})

test('links in the documents lead somewhere', () => {
  const broken: string[] = []
  for (const file of globSync('{*.md,docs/**/*.md}', { cwd: root })) {
    for (const [, target] of readFileSync(path.join(root, file), 'utf8').matchAll(
      /\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g,
    )) {
      if (!existsSync(path.join(root, path.dirname(file), target!))) broken.push(`${file}: ${target}`)
    }
  }
  assert.deepEqual(broken, [])
})
