import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { seededRandom } from '../src/kernel/random.ts'
import type { Bench } from './run.ts'
import { type BareNginx, startBareNginx } from './support/bare-nginx.ts'
import { processCpuMs, treeCpuMs, treeResidentBytes } from './support/cpu.ts'
import { type LoadRequest, sendRequests } from './support/load.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { inWords, machineFacts, progress, rounded, type Spread, spread, table } from './support/report.ts'
import { logIn, type Scene, sceneOf } from './support/scene.ts'
import { stationary } from './support/traces.ts'

const articles = 2_000
const pages = 500
/** Of them, asked for to compare: all of both are kept, in memory too. */
const compared = 96
/** Short rounds, and many: what else the machine does comes in bursts. */
const counted = 20_000
const connections = 64
const idle = 10_000 - connections
const traceLength = 20_000
const traceConnections = 32
const writeShare = 0.1
/** `ofBare`: kept pages in a second of CPU, of what nginx with `proxy_cache` alone answers. Below this the bench fails. */
const targets = { ofBare: 0.8, keptFromApp: 0.85 }

interface Up {
  url: string
  parts: { name: string; pid: number }[]
}

const bench: Bench = {
  claim:
    'for the same CPU the edge answers at least 0.8 of the kept pages that bare nginx does, also with 10,000 open connections',
  async run({ json, rounds = 15 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-edge-'))
    const env = { RUNG_DATA: dir, NODE_ENV: 'production' }
    const rung = [
      '--conditions=rung-source',
      'src/cli/bin.js',
      'up',
      '10k',
      'examples/conduit/app.ts',
      '--json',
      '--port',
      '0',
    ]
    const up = startNode(rung, env)
    try {
      const { url, parts } = await firstDocument<Up>(up)
      progress(`  ${articles} articles`)
      await seed(dir, articles)
      const scene = await sceneOf(dir)
      const bare = await startBareNginx(path.join(dir, 'bare'), url)
      const result = await measure(url, parts, scene, rounds, bare).finally(() => bare.stop())
      if (!json) show(result)
      for (const { median } of [result.few, result.many, result.compressed])
        if (median < targets.ofBare) throw new Error(`Under the target: ${median.toFixed(2)} of bare nginx`)
      return { facts: machineFacts(scene.postgres), targets, ...inFile(result) }
    } finally {
      await end(up)
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

interface Result {
  /** Kept pages for each second of the edge's CPU, of those of bare nginx, round by round. */
  few: Spread
  many: Spread
  compressed: Spread
  /** CPU for one of them, µs. */
  edgeUs: Spread
  bareUs: Spread
  nginxMiBWithMany: number
  /** Of the trace. */
  readsKeptFromApp: number
  requestsKeptFromApp: number
  stale: number
  appMsPerRequest: number
}

async function measure(
  url: string,
  parts: Up['parts'],
  scene: Scene,
  rounds: number,
  bare: BareNginx,
): Promise<Result> {
  const pidOf = (name: string) => parts.find((part) => part.name === name)!.pid
  const [nginx, web] = [pidOf('edge'), pidOf('web-1')]
  const slugs = scene.slugs.slice(0, pages)
  const requests: LoadRequest[] = [
    '/',
    '/api/tags',
    '/api/articles?limit=20',
    ...slugs.slice(0, compared).map((slug) => `/article/${slug}`),
  ].map((at) => ({ path: at }))
  const sides = [
    { url, pid: nginx },
    { url: bare.url, pid: bare.pid },
  ]
  const usOf = async ({ url, pid }: (typeof sides)[number], count: number, headers = {}) => {
    const before = treeCpuMs(pid)
    const all = requests.map((request) => ({ ...request, headers }))
    const { failures } = await sendRequests({ url, requests: all, count, connections })
    if (failures > 0) throw new Error(`${failures} of ${count} requests failed`)
    return (1_000 * (treeCpuMs(pid) - before)) / count
  }
  /** One after the other, and the other way round in the next round, so that what else the machine does meets both. */
  const roundsOf = async (what: string, headers = {}) => {
    for (const side of sides) await usOf(side, 4 * requests.length, headers)
    const costs: [number[], number[]] = [[], []]
    for (let round = 0; round < rounds; round += 1) {
      for (const at of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
        costs[at].push(await usOf(sides[at]!, counted, headers))
      progress(
        `  ${what}, round ${round + 1} of ${rounds}: ${costs.map((all) => all[round]!.toFixed(1)).join(' and ')} µs`,
      )
    }
    const [edge, plain] = costs
    return { edgeUs: spread(edge), bareUs: spread(plain), ratio: spread(edge.map((us, round) => plain[round]! / us)) }
  }
  const { ratio: few, ...us } = await roundsOf('edge and bare nginx')
  const { ratio: compressed } = await roundsOf('compressed', { 'accept-encoding': 'gzip, deflate, br, zstd' })
  const crowd = await openIdle(url)
  const memory = treeResidentBytes(nginx) / 2 ** 20
  const { ratio: many } = await roundsOf('with 10,000 connections')
  await close(crowd)
  const traced = await trace(url, scene, slugs, web)
  return { few, many, compressed, ...us, nginxMiBWithMany: memory, ...traced }
}

/** They have asked once and stay, as browsers do. In a process of its own, since open files are limited for each. */
async function openIdle(url: string): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL('support/idle-process.ts', import.meta.url)))
  child.send({ url, count: idle })
  const [{ open }] = (await once(child, 'message')) as [{ open: number }]
  if (open !== idle) throw new Error(`${open} of ${idle} connections are open`)
  return child
}

async function close(child: ChildProcess): Promise<void> {
  child.disconnect()
  await once(child, 'exit')
}

/** Nine of ten read a page, one of ten favors or comments: articles by Zipf's law (exponent 1), readers without a session. */
async function trace(url: string, scene: Scene, slugs: readonly string[], web: number) {
  const tokens = await logIn(url, scene.viewers.slice(0, 8))
  const ranks = stationary(slugs.length, traceLength, 1)
  const random = seededRandom(5)
  const isWrite = Array.from({ length: traceLength }, () => random() < writeShare)
  let [at, reads, hits, writes, stale] = [0, 0, 0, 0, 0]
  const before = processCpuMs(web)
  await Promise.all(
    Array.from({ length: traceConnections }, async (_, who) => {
      while (at < traceLength) {
        const step = at
        at += 1
        const slug = slugs[ranks[step]!]!
        if (isWrite[step]) {
          writes += 1
          const word = `word-${step}`
          const response = await fetch(`${url}/api/articles/${slug}/comments`, {
            method: 'POST',
            headers: { authorization: `Token ${tokens[who % tokens.length]}`, 'content-type': 'application/json' },
            body: JSON.stringify({ comment: { body: word } }),
          })
          if (response.status !== 201) throw new Error(`a comment was answered with ${response.status}`)
          await response.text()
          continue
        }
        reads += 1
        const response = await fetch(`${url}/article/${slug}`)
        await response.text()
        if (/HIT|STALE/.test(response.headers.get('x-cache') ?? '')) hits += 1
      }
    }),
  )
  const appMsPerRequest = (processCpuMs(web) - before) / (reads - hits + writes)
  // Every comment is on its page, as the edge has it now.
  for (const slug of slugs.slice(0, 50)) {
    const api = (await (await fetch(`${url}/api/articles/${slug}/comments`)).json()) as { comments: { body: string }[] }
    const page = await (await fetch(`${url}/article/${slug}`)).text()
    if (api.comments.some(({ body }) => !page.includes(body))) stale += 1
  }
  return { readsKeptFromApp: hits / reads, requestsKeptFromApp: hits / traceLength, stale, appMsPerRequest }
}

function inFile({ few, many, compressed, edgeUs, bareUs, ...others }: Result): object {
  return {
    ofBare: rounded(few),
    ofBareWith10000: rounded(many),
    ofBareCompressed: rounded(compressed),
    edgeUs: rounded(edgeUs),
    bareUs: rounded(bareUs),
    ...others,
  }
}

function show(result: Result): void {
  const share = (value: number) => `${(100 * value).toFixed(1)} %`
  const rows = [
    ['', 'measured', 'target'],
    ['kept pages for the same CPU, of bare nginx', inWords(result.few), `≥ ${targets.ofBare}`],
    ['the same with 10,000 open connections', inWords(result.many), `≥ ${targets.ofBare}`],
    ['the same for browsers, which take gzip', inWords(result.compressed), `≥ ${targets.ofBare}`],
    ['CPU of the edge for one, µs', inWords(result.edgeUs, 1), ''],
    ['CPU of bare nginx for one, µs', inWords(result.bareUs, 1), ''],
    ['memory of nginx with 10,000 connections, MiB', result.nginxMiBWithMany.toFixed(0), ''],
    ['9 reads to 1 write: reads kept from the app', share(result.readsKeptFromApp), `≥ ${share(targets.keptFromApp)}`],
    ['of all requests, writes too', share(result.requestsKeptFromApp), ''],
    ['pages that miss a comment', String(result.stale), '0'],
    ['CPU of the app for what reaches it, ms', result.appMsPerRequest.toFixed(2), ''],
  ]
  process.stdout.write(`\n${table(rows)}\n`)
}
