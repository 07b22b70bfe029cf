import { Agent, request } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { checkHistory, createRecorder } from '../../src/history.ts'
import { end, firstDocument, root, startLikeApp } from './processes.ts'
import { at99, progress } from './report.ts'

/** Who writes at one process and then reads at another one; when those see it who have written nothing; and whether they see it for good. */

const sessions = 16
/** Each has so many things of its own. */
const thingsEach = 20
const seenSamples = 1_000
/** What this finds stale shows that it would find it. */
const controlPairs = 5_000
/** Of readers who do not write. */
const readers = 6
const readsEach = 2_000
const readThings = 4
const writePauseMs = 3

export interface OwnWrites {
  pairs: number
  stale: number
  pairsPerSecond: number
  /** The same reads by somebody who does not show his cookie. */
  control: { pairs: number; stale: number }
  /** Reads that showed less than their session had seen before of what others write. */
  back: { reads: number; anomalies: number }
  /** From the writer's answer to the first answer with it that a stranger got, sorted. */
  othersMs: number[]
}

/** Two web processes of one app as `rung up 10k` starts them, with nothing in front: the client says which of them answers. */
export async function measureOwnWrites(
  { dir, databaseUrl, redisUrl }: { dir: string; databaseUrl: string; redisUrl: string },
  pairs: number,
): Promise<OwnWrites> {
  const env = {
    RUNG_DATA: dir,
    RUNG_TOPOLOGY: '10k',
    RUNG_ROLE: 'web',
    RUNG_SECRET: 'the same for both of them, else no cookie is believed',
    RUNG_REDIS_URL: redisUrl,
    DATABASE_URL: databaseUrl,
    PORT: '0',
    LOG_LEVEL: 'error',
  }
  const children: ReturnType<typeof startLikeApp>[] = []
  const agent = new Agent({ keepAlive: true })
  async function start(): Promise<string> {
    const child = startLikeApp(
      ['--conditions=rung-source', 'src/cli/bin.js', 'start', `${root}bench/support/things-app.ts`, '--json'],
      env,
    )
    children.push(child)
    return (await firstDocument<{ url: string }>(child)).url
  }
  try {
    const urls = [await start(), await start()] as const
    return await compare(urls, agent, pairs)
  } finally {
    agent.destroy()
    for (const child of children) await end(child)
  }
}

async function compare(urls: readonly [string, string], agent: Agent, pairs: number): Promise<OwnWrites> {
  let next = 0
  let isDone = false

  /** Until so many pairs are done: `shows` its cookie, or is a stranger to the other process. */
  async function pairsOf(session: number, count: number, shows: boolean): Promise<number> {
    const who = client(agent)
    const stranger = client(agent)
    let stale = 0
    for (let turn = 0; next < count; turn += 1) {
      next += 1
      if (next % 20_000 === 0) progress(`  ${next} pairs`)
      const path = `/things/${session * thingsEach + (turn % thingsEach)}`
      // A thing is always read at the same process, which has its last version in memory.
      const [from, to] = [urls[turn % 2]!, urls[1 - (turn % 2)]!]
      const written = await who('POST', from + path)
      const seen = await (shows ? who : stranger)('GET', to + path)
      if (seen < written) stale += 1
    }
    return stale
  }
  async function all(count: number, shows: boolean): Promise<number> {
    next = 0
    const stale = await Promise.all(Array.from({ length: sessions }, (_, session) => pairsOf(session, count, shows)))
    return stale.reduce((sum, one) => sum + one, 0)
  }
  /** Beside the pairs, as long as they take. */
  async function others(): Promise<number[]> {
    const [writer, stranger] = [client(agent), client(agent)]
    const path = `/things/${sessions * thingsEach}`
    const taken: number[] = []
    for (let sample = 0; sample < seenSamples && !isDone; sample += 1) {
      const [from, to] = [urls[sample % 2]!, urls[1 - (sample % 2)]!]
      await stranger('GET', to + path) // now it is in memory there
      const written = await writer('POST', from + path)
      const began = performance.now()
      while ((await stranger('GET', to + path)) < written);
      taken.push(performance.now() - began)
      await wait(sample % 50) // at all times of whatever happens in turns
    }
    return taken.sort((a, b) => a - b)
  }

  /** Each goes from one process to the other, while somebody writes what they read. */
  async function readBack(): Promise<OwnWrites['back']> {
    const recorder = createRecorder()
    const pathOf = (key: number) => `/things/${(sessions + 1) * thingsEach + key}`
    let areRead = false
    async function write(): Promise<void> {
      const who = client(agent)
      for (let turn = 0; !areRead; turn += 1) {
        const key = turn % readThings
        const writing = recorder.begin({ kind: 'write', session: 'writer', key: `${key}` })
        writing.ok({ version: await who('POST', urls[turn % 2]! + pathOf(key)) })
        await wait(writePauseMs)
      }
    }
    async function read(session: string): Promise<void> {
      const who = client(agent)
      for (let turn = 0; turn < readsEach; turn += 1) {
        const key = (turn >> 1) % readThings
        const reading = recorder.begin({ kind: 'read', session, key: `${key}` })
        reading.ok({ version: await who('GET', urls[turn % 2]! + pathOf(key)) })
      }
    }
    const writing = write()
    const reading = Array.from({ length: readers }, (_, number) => read(`reader ${number}`))
    await Promise.all(reading).finally(() => {
      areRead = true
    })
    await writing
    const anomalies = checkHistory(recorder.operations()).reduce((sum, { count }) => sum + count, 0)
    return { reads: readers * readsEach, anomalies }
  }

  const began = performance.now()
  const othersMs = others()
  const stale = await all(pairs, true)
  const pairsPerSecond = (pairs / (performance.now() - began)) * 1000
  isDone = true
  const seen = await othersMs
  const control = { pairs: controlPairs, stale: await all(controlPairs, false) }
  const back = await readBack()
  progress(
    `  two processes: ${stale} stale, others after ${at99(seen).toFixed(1)} ms, ${control.stale} without cookies`,
  )
  return { pairs, stale, pairsPerSecond, control, back, othersMs: seen }
}

/** Somebody who keeps the cookies that he is given, as browsers do. Gives the version. */
function client(agent: Agent): (method: string, url: string) => Promise<number> {
  let cookie: string | undefined
  return (method, url) =>
    new Promise((resolve, reject) => {
      const asked = request(url, { agent, method, headers: cookie === undefined ? {} : { cookie } }, (answer) => {
        let text = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk: string) => {
          text += chunk
        })
        answer.once('error', reject)
        answer.once('end', () => {
          const [given] = answer.headers['set-cookie'] ?? []
          if (given !== undefined) cookie = given.slice(0, given.indexOf(';'))
          if (answer.statusCode === 200) resolve((JSON.parse(text) as { version: number }).version)
          else reject(new Error(`${method} ${url} gave ${answer.statusCode}: ${text}`))
        })
      })
      asked.once('error', reject)
      asked.end()
    })
}
