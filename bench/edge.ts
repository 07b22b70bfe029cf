import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { seededRandom } from '../src/kernel/random.ts'
import type { Bench } from './run.ts'
import { processCpuMs, treeCpuMs, treeResidentBytes } from './support/cpu.ts'
import { type LoadRequest, sendRequests } from './support/load.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { inWords, machineFacts, progress, rounded, type Spread, spread, table } from './support/report.ts'
import { logIn, type Scene, sceneOf } from './support/scene.ts'
import { stationary } from './support/traces.ts'

const articles = 2_000
const pages = 500
const counted = 60_000
const connections = 64
const idle = 10_000 - connections
const traceLength = 20_000
const traceConnections = 32
const writeShare = 0.1
const targets = { perCpuSecond: 50_000, keptFromApp: 0.85 }

interface Up {
  url: string
  parts: { name: string; pid: number }[]
}

const bench: Bench = {
  claim: 'the edge answers 50,000 requests for each second of its CPU, also with 10,000 open connections',
  async run({ json, rounds = 5 }) {
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
      const result = await measure(url, parts, scene, rounds)
      if (!json) show(result)
      return { facts: machineFacts(scene.postgres), targets, ...inFile(result) }
    } finally {
      await end(up)
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

interface Result {
  /** Requests for each second of nginx' CPU. */
  few: Spread
  many: Spread
  nginxMiBWithMany: number
  /** Of the trace. */
  readsKeptFromApp: number
  requestsKeptFromApp: number
  stale: number
  appMsPerRequest: number
}

async function measure(url: string, parts: Up['parts'], scene: Scene, rounds: number): Promise<Result> {
  const pidOf = (name: string) => parts.find((part) => part.name === name)!.pid
  const [nginx, web] = [pidOf('edge'), pidOf('web-1')]
  const slugs = scene.slugs.slice(0, pages)
  const requests: LoadRequest[] = [
    '/',
    '/api/tags',
    '/api/articles?limit=20',
    ...slugs.map((slug) => `/article/${slug}`),
  ].map((at) => ({ path: at }))
  const run = async (count: number) => {
    const before = treeCpuMs(nginx)
    const { failures } = await sendRequests({ url, requests, count, connections })
    if (failures > 0) throw new Error(`${failures} of ${count} requests failed`)
    return (1_000 * count) / (treeCpuMs(nginx) - before)
  }
  await run(2 * requests.length)
  const few: number[] = []
  const many: number[] = []
  for (let round = 0; round < rounds; round += 1) few.push(await run(counted))
  const crowd = await openIdle(url)
  const memory = treeResidentBytes(nginx) / 2 ** 20
  for (let round = 0; round < rounds; round += 1) many.push(await run(counted))
  await close(crowd)
  progress(
    `  at the edge: ${few.map(Math.round)} and with 10,000 connections ${many.map(Math.round)} for each second of CPU`,
  )
  const traced = await trace(url, scene, slugs, web)
  return { few: spread(few), many: spread(many), nginxMiBWithMany: memory, ...traced }
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

function inFile({ few, many, ...others }: Result): object {
  return { perCpuSecond: rounded(few), perCpuSecondWith10000: rounded(many), ...others }
}

function show({
  few,
  many,
  nginxMiBWithMany,
  readsKeptFromApp,
  requestsKeptFromApp,
  stale,
  appMsPerRequest,
}: Result): void {
  const share = (value: number) => `${(100 * value).toFixed(1)} %`
  const rows = [
    ['', 'measured', 'target'],
    ['kept pages for each second of nginx’ CPU', inWords(few, 0), `≥ ${targets.perCpuSecond}`],
    ['the same with 10,000 open connections', inWords(many, 0), `≥ ${targets.perCpuSecond}`],
    ['memory of nginx with them, MiB', nginxMiBWithMany.toFixed(0), ''],
    ['9 reads to 1 write: reads that never reach the app', share(readsKeptFromApp), `≥ ${share(targets.keptFromApp)}`],
    ['of all requests, writes too', share(requestsKeptFromApp), ''],
    ['pages that miss a comment', String(stale), '0'],
    ['CPU of the app for what reaches it, ms', appMsPerRequest.toFixed(2), ''],
  ]
  process.stdout.write(`\n${table(rows)}\n`)
}
