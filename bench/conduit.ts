import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbedded } from '../src/engines/postgres/embedded.ts'
import type { Bench, BenchOptions } from './run.ts'
import { type Compared, compare } from './support/compare.ts'
import { residentBytes } from './support/cpu.ts'
import { type LoadRequest, sendRequests } from './support/load.ts'
import {
  type Contender,
  end,
  firstDocument,
  freePort,
  seed,
  spawnConduit,
  startConduit,
  startNode,
} from './support/processes.ts'
import { inWords, machineFacts, progress, rounded, type Spread, spread, table } from './support/report.ts'
import {
  countOf,
  logIn,
  type Requests,
  type Route,
  requestsOf,
  routes,
  type Scene,
  sceneOf,
  signFor,
} from './support/scene.ts'

const smallArticles = 10_000
const largeArticles = 1_000_000
const targets = { ratio: 1.5, memoryMiB: 150, millionRatio: 1.5, startMs: 1_000, firstStartMs: 3_000 }

/** What Conduit costs on Rung, against the same routes written by hand; its memory; its start. */
const bench: Bench = {
  claim: 'a request costs at most 1.5 times what it costs by hand',
  async run(options) {
    const dir = options.data ?? (await mkdtemp(path.join(tmpdir(), 'rung-bench-')))
    try {
      return await measure(options, path.resolve(dir))
    } finally {
      if (options.data === undefined) await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function measure(options: BenchOptions, dir: string): Promise<object> {
  const rounds = options.rounds ?? 7
  const [ours, theirs] = [path.join(dir, 'conduit'), path.join(dir, 'floor')]
  for (const place of [ours, theirs]) await seed(place, smallArticles)

  const scene = await sceneOf(ours)
  // The first start of changed code compiles it, and keeps the compiler in memory; every other finds it compiled.
  await (await startConduit('rung', ours)).stop()
  const rung = await startConduit('rung', ours, { RUNG_CACHE: 'off' })
  const stops = [rung.stop]
  try {
    const key = randomBytes(32)
    const floor = await startFloor(theirs, key)
    stops.push(floor.stop)
    const rungRequests = requestsOf(scene, await logIn(rung.url, scene.viewers))
    const floorRequests = requestsOf(scene, await signFor(key, scene.viewers))
    await expectEqual([floor, floorRequests], [rung, rungRequests])
    progress('both give the same answers')
    const sides = { first: [floor, floorRequests], second: [rung, rungRequests] } as const
    const costs = await compareRoutes(routes, sides, rounds)
    const memoryMiB = Math.round(residentBytes(rung.pid) / 1024 ** 2)
    const floorMemoryMiB = Math.round(residentBytes(floor.pid) / 1024 ** 2)
    const million = options.million ? await compareWithMillion(dir, rung, rungRequests, rounds) : undefined
    await rung.stop()
    const cached = await compareCached(ours, [floor, floorRequests], scene, rounds)
    await floor.stop()
    const start = await startTimes(ours, path.join(dir, 'fresh'))
    const result = {
      claim: bench.claim,
      facts: machineFacts(scene.postgres),
      targets,
      costs: costs.map(({ route, first, firstApp, second, secondApp, ratio }) => ({
        route,
        floorMs: rounded(first),
        floorAppMs: rounded(firstApp),
        rungMs: rounded(second),
        rungAppMs: rounded(secondApp),
        ratio: rounded(ratio),
      })),
      cached: cached.map(({ route, first, second, secondApp, ratio }) => ({
        route,
        floorMs: rounded(first),
        rungMs: rounded(second),
        rungAppMs: rounded(secondApp),
        ratio: rounded(ratio),
      })),
      memoryMiB,
      floorMemoryMiB,
      start: { existingMs: rounded(start.existing), firstMs: rounded(start.first) },
      ...(million && {
        million: million.map(({ route, first, second, ratio }) => ({
          route,
          smallMs: rounded(first),
          largeMs: rounded(second),
          ratio: rounded(ratio),
        })),
      }),
    }
    if (!options.json) show(costs, cached, memoryMiB, floorMemoryMiB, start, million)
    return result
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
}

/** The hand-written app, on a Postgres with the same settings and the same rows. */
async function startFloor(dataDir: string, key: Buffer): Promise<Contender> {
  const server = await startEmbedded({ root: dataDir, connectionsMax: 60 })
  const child = startNode(['--conditions=rung-source', 'bench/floor.ts'], {
    DATABASE_HOST: server.connection.host!,
    TOKEN_KEY: key.toString('hex'),
    NODE_ENV: 'production',
  })
  const { url } = await firstDocument<{ url: string }>(child)
  let stopping: Promise<void> | undefined
  return {
    name: 'floor',
    url,
    pid: child.pid!,
    databasePid: server.pid()!,
    stop() {
      stopping ??= end(child).then(() => server.stop())
      return stopping
    },
  }
}

type Asked = readonly [Contender, Requests]

/** A ratio of costs means something only between equal answers. */
async function expectEqual([floor, floorRequests]: Asked, [rung, rungRequests]: Asked): Promise<void> {
  for (const route of routes) {
    for (const [at, request] of floorRequests[route].slice(0, 200).entries()) {
      const [theirs, ours] = [await read(floor, request), await read(rung, rungRequests[route][at]!)]
      assert.deepEqual(ours, theirs, `${request.path}: the answers differ`)
    }
  }
  const headers = [floorRequests, rungRequests].map(({ feed }) => feed[0]!.headers!)
  for (const path of [
    '/api/articles?limit=7&offset=9000',
    '/api/articles?offset=20000',
    '/api/articles/feed?limit=5&offset=3',
    floorRequests.slug[0]!.path,
  ]) {
    const [theirs, ours] = [
      await read(floor, { path, headers: headers[0]! }),
      await read(rung, { path, headers: headers[1]! }),
    ]
    assert.deepEqual(ours, theirs, `${path}: the answers differ`)
  }
}

async function read({ url }: Contender, { path, headers = {} }: LoadRequest): Promise<unknown> {
  const response = await fetch(url + path, { headers })
  assert.equal(response.status, 200, path)
  return response.json()
}

type RouteCost = Compared & { route: Route }

async function compareRoutes(
  which: readonly Route[],
  { first, second }: { first: Asked; second: Asked },
  rounds: number,
): Promise<RouteCost[]> {
  // Compilers and plan caches have seen everything before anything is measured.
  for (const route of which) {
    for (const [{ url }, requests] of [first, second]) {
      await sendRequests({ url, requests: requests[route], count: 3 * countOf[route], connections: 16 })
    }
  }
  const costs: RouteCost[] = []
  for (const route of which) {
    const sides = [first, second].map(([contender, requests]) => ({ contender, requests: requests[route] }))
    costs.push({ route, ...(await compare(route, [sides[0]!, sides[1]!], rounds, countOf[route])) })
  }
  return costs
}

/** What the anonymous ask for again and again. */
async function compareCached(dataDir: string, floor: Asked, scene: Scene, rounds: number): Promise<RouteCost[]> {
  const rung = await startConduit('rung, cached', dataDir)
  try {
    const requests = requestsOf(scene, await logIn(rung.url, scene.viewers))
    return await compareRoutes(['list', 'slug', 'tags'], { first: floor, second: [rung, requests] }, rounds)
  } finally {
    await rung.stop()
  }
}

/** Rung on ten thousand articles against Rung on a million. */
async function compareWithMillion(
  dir: string,
  small: Contender,
  requests: Requests,
  rounds: number,
): Promise<RouteCost[]> {
  const dataDir = path.join(dir, 'million')
  progress(`seeding ${largeArticles.toLocaleString('en')} articles`)
  await seed(dataDir, largeArticles)
  const scene = await sceneOf(dataDir)
  const large = await startConduit('rung, a million', dataDir, { RUNG_CACHE: 'off' })
  try {
    const largeRequests = requestsOf(scene, await logIn(large.url, scene.viewers))
    const sides = { first: [small, requests], second: [large, largeRequests] } as const
    return await compareRoutes(['list', 'slug', 'feed'], sides, rounds)
  } finally {
    await large.stop()
  }
}

/** From the start of the process to its first answer out of the database, ms. */
async function startTimes(existing: string, fresh: string): Promise<{ existing: Spread; first: Spread }> {
  const times = { existing: [] as number[], first: [] as number[] }
  for (let round = 0; round < 5; round += 1) {
    times.existing.push(await timeToAnswer(existing))
    await rm(fresh, { recursive: true, force: true })
    times.first.push(await timeToAnswer(fresh))
    progress(`  start ${Math.round(times.existing.at(-1)!)} ms, first start ${Math.round(times.first.at(-1)!)} ms`)
  }
  await rm(fresh, { recursive: true, force: true })
  return { existing: spread(times.existing), first: spread(times.first) }
}

async function timeToAnswer(dataDir: string): Promise<number> {
  const port = await freePort()
  const began = performance.now()
  const child = spawnConduit({ RUNG_DATA: dataDir, PORT: String(port) })
  child.stdout!.resume()
  try {
    for (;;) {
      const response = await fetch(`http://127.0.0.1:${port}/api/articles?limit=20`).catch(() => undefined)
      if (response?.status === 200) return performance.now() - began
      if (child.exitCode !== null) throw new Error('the app ended before it answered')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  } finally {
    await end(child)
  }
}

function show(
  costs: readonly RouteCost[],
  cached: readonly RouteCost[],
  memoryMiB: number,
  floorMemoryMiB: number,
  start: { existing: Spread; first: Spread },
  million: readonly RouteCost[] | undefined,
): void {
  const print = (text: string) => process.stdout.write(`${text}\n`)
  print('\nCPU of the app and its Postgres together, ms a request: median (range)')
  print(tableOf(['route', 'floor', '(app)', 'rung', '(app)', 'ratio', 'target'], costs, targets.ratio))
  print('\nThe same with the cache, warm; the floor has none')
  print(tableOf(['route', 'floor', '(app)', 'rung', '(app)', 'ratio', 'target'], cached, targets.ratio))
  if (million) {
    print('\nOn 10,000 articles and on 1,000,000, CPU ms a request')
    print(tableOf(['route', '10,000', '(app)', '1,000,000', '(app)', 'ratio', 'target'], million, targets.millionRatio))
  }
  const ms = ({ median, least, most }: Spread) => inWords({ median, least, most }, 0)
  print('')
  print(
    table([
      ['', 'measured', 'target'],
      ['memory of the app after it, MiB', `${memoryMiB} (floor ${floorMemoryMiB})`, String(targets.memoryMiB)],
      ['start to first answer, ms', ms(start.existing), String(targets.startMs)],
      ['first start ever, ms', ms(start.first), String(targets.firstStartMs)],
    ]),
  )
}

function tableOf(head: string[], costs: readonly RouteCost[], target: number): string {
  const rows = costs.map(({ route, first, firstApp, second, secondApp, ratio }) => [
    route,
    first.median.toFixed(3),
    `(${firstApp.median.toFixed(3)})`,
    second.median.toFixed(3),
    `(${secondApp.median.toFixed(3)})`,
    inWords(ratio),
    target.toFixed(1),
  ])
  return table([head, ...rows])
}
