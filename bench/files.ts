import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type ClientRequest, request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Bench } from './run.ts'
import { end, firstDocument, startNode } from './support/processes.ts'
import { inWords, machineFacts, rounded, spread, table } from './support/report.ts'

const mebibyte = 1024 ** 2
const bytes = 1024 * mebibyte
const targetMiB = 64

/**
 * What a large upload and download cost in memory and time, against the same by hand in a process of the same size. V8 lets 64 MiB of
 * buffers lie before it collects them, whoever reads the stream; a small process, with a small young generation, sooner.
 */
const bench: Bench = {
  claim: 'a file of 1 GiB costs at most 64 MiB of memory on its way in and out',
  async run({ rounds = 3, json }) {
    const names = ['upload', 'download'] as const
    const own = { upload: [] as Cost[], download: [] as Cost[] }
    const floor = { upload: [] as Cost[], download: [] as Cost[] }
    for (let round = 0; round < rounds; round += 1) {
      // New processes for each round: memory that was once taken is not taken again.
      for (const [side, costs] of [
        ['own', own],
        ['floor', floor],
      ] as const) {
        await withProcess(side, async (pid, put, get) => {
          costs.upload.push(await cost(pid, () => upload(put, bytes)))
          costs.download.push(await cost(pid, () => download(get)))
        })
      }
    }
    const result = Object.fromEntries(
      names.map((name) => [
        name,
        {
          memoryMiB: rounded(spread(own[name].map(({ memoryMiB }) => memoryMiB))),
          floorMemoryMiB: rounded(spread(floor[name].map(({ memoryMiB }) => memoryMiB))),
          seconds: rounded(spread(own[name].map(({ seconds }) => seconds))),
          ratio: rounded(spread(own[name].map(({ seconds }, round) => seconds / floor[name][round]!.seconds))),
        },
      ]),
    )
    if (!json) {
      const head = ['1 GiB', 'MiB more, at most', 'target', 'by hand', 's', 'time, to by hand']
      const rows = Object.entries(result).map(([name, { memoryMiB, floorMemoryMiB, seconds, ratio }]) => [
        name,
        memoryMiB.most.toFixed(1),
        `${targetMiB}`,
        floorMemoryMiB.most.toFixed(1),
        seconds.median.toFixed(2),
        inWords(ratio),
      ])
      process.stdout.write(`${table([head, ...rows])}\n`)
    }
    return { claim: bench.claim, facts: machineFacts('embedded'), targetMiB, ...result }
  },
}

interface Cost {
  memoryMiB: number
  seconds: number
}

async function withProcess(
  side: 'own' | 'floor',
  body: (pid: number, put: string, get: string) => Promise<void>,
): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
  const child = startNode(['src/cli/bin.js', 'start', 'bench/support/files-app.ts', '--json'], {
    RUNG_DATA: dir,
    PORT: '0',
  })
  try {
    const { url } = await firstDocument<{ url: string }>(child)
    const urls = (await (await fetch(`${url}/urls`)).json()) as Record<string, { put: string; get: string }>
    const [put, get] = [url + urls[side]!.put, url + urls[side]!.get]
    await upload(put, mebibyte) // what is loaded lazily is no part of it
    await download(get)
    await body(child.pid!, put, get)
  } finally {
    await end(child)
    await rm(dir, { recursive: true, force: true })
  }
}

async function cost(pid: number, work: () => Promise<void>): Promise<Cost> {
  const before = await residentMiB(pid)
  const peak = watch(pid)
  const start = performance.now()
  await work()
  const seconds = (performance.now() - start) / 1000
  return { memoryMiB: (await peak()) - before, seconds }
}

export default bench

const chunk = Buffer.alloc(64 * 1024, 'a line of a large file, 32 bytes\n')

async function upload(url: string, size: number): Promise<void> {
  const hash = createHash('sha256')
  const call = request(url, { method: 'PUT', headers: { 'content-length': size } })
  const answered = answerTo(call)
  await pipeline(
    Readable.from(
      (function* () {
        for (let left = size; left > 0; left -= chunk.length) {
          hash.update(chunk)
          yield chunk
        }
      })(),
    ),
    call,
  )
  const { headers, statusCode } = await answered
  if (statusCode !== 204 || headers.etag !== `"${hash.digest('hex')}"`)
    throw new Error(`the upload failed: ${statusCode}`)
}

async function download(url: string): Promise<void> {
  const call = request(url)
  const answered = answerTo(call)
  call.end()
  for await (const _ of await answered);
}

function answerTo(call: ClientRequest) {
  return new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    call.once('error', reject)
    call.once('response', (answer) => {
      if (call.method === 'PUT') answer.resume()
      resolve(answer)
    })
  })
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) / 1024
}

/** The largest that is seen until the returned function is called. */
function watch(pid: number): () => Promise<number> {
  let most = 0
  const look = async () => {
    most = Math.max(most, await residentMiB(pid))
  }
  const timer = setInterval(() => void look(), 20)
  return async () => {
    clearInterval(timer)
    await look()
    return most
  }
}
