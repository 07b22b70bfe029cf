import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { request as send } from 'node:http'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { boot } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import till from './apps/till/app.ts'
import { until } from './process.ts'

const processes = 2
const clients = 6
const senders = 5
/** The moments at which a process kills itself; `undefined`: it is killed from outside. */
const moments = ['reserved', 'before-commit', 'committed', 'before-finish', 'finished', undefined] as const

interface Answer {
  status: number
  code: string | undefined
  replayed: boolean
  /** Everything that has to be equal. */
  bytes: string
}

function post(url: string, key: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const body = JSON.stringify({ key })
  const headers = {
    'content-type': 'application/json',
    'content-length': body.length,
    'idempotency-key': `"${key}"`,
    authorization: 'User one',
  }
  const sent = send(`${url}/payments`, { method: 'POST', headers, timeout: 20_000 }, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk) => chunks.push(chunk))
    response.once('error', reject)
    response.once('end', () => {
      if (!response.complete) return reject(new Error('cut off'))
      const text = Buffer.concat(chunks).toString('latin1')
      const { 'content-type': type, location, 'idempotency-replayed': marker } = response.headers
      const status = response.statusCode!
      const code = status >= 400 ? JSON.parse(text).code : undefined
      resolve({ status, code, replayed: marker === 'true', bytes: JSON.stringify([status, type, location, text]) })
    })
  })
  sent.once('error', reject)
  sent.once('timeout', () => sent.destroy(new Error('no answer')))
  sent.end(body)
  return promise
}

/**
 * Kills processes of the till, at each moment of a request with a key in turn, while clients send each key several times.
 * @param url of an empty database
 * @param kills how many processes are killed
 * @returns what happened, in one sentence
 * @throws AssertionError when a key had two effects, or two answers
 */
export async function killTills(url: string, kills: number): Promise<string> {
  const children = new Set<ChildProcess>()
  const secret = 'a secret of the tests, long enough to be one'
  const config = readBindings({ PORT: '0', LOG_LEVEL: 'silent', DATABASE_URL: url, RUNG_SECRET: secret }, process.cwd())
  const log = createLog('till', 'silent')
  const home = await boot(till, { ...config, limits: 'off' }, { log }) // makes the tables; runs the jobs
  const random = seededRandom(409)
  const urls = new Map<number, string>()
  const answers = new Map<string, Answer[]>()
  const tally = { asked: 0, replayed: 0, inFlight: 0, broken: 0, byMoment: {} as Record<string, number> }
  let begun = 0
  let killed = 0
  let over = false

  /** Keeps one process running, which is killed again and again. */
  async function keepKilling(place: number): Promise<void> {
    while (begun < kills) {
      const moment = moments[begun % moments.length]
      begun += 1
      const at = moment && { moment, nth: 1 + Math.floor(random() * 8) }
      const child = fork(path.join(import.meta.dirname, 'till-process.ts'), [JSON.stringify({ url, at })], {
        execArgv: ['--conditions=rung-source'],
      })
      children.add(child)
      const gone = new Promise<unknown>((resolve) => child.once('exit', (_, signal) => resolve(signal)))
      void gone.then(() => children.delete(child))
      const started = new Promise<string>((resolve) => child.once('message', (text) => resolve(String(text))))
      const own = await Promise.race([started, gone.then(() => undefined)])
      if (own) urls.set(place, own)
      if (!at) {
        await wait(random() * 150)
        child.kill('SIGKILL')
      }
      assert.equal(await gone, 'SIGKILL', 'a process ended in another way')
      urls.delete(place)
      killed += 1
      const how = moment ?? 'outside'
      tally.byMoment[how] = (tally.byMoment[how] ?? 0) + 1
      if (killed === kills) over = true
    }
  }

  /** Asks until it is answered. */
  async function ask(key: string): Promise<void> {
    for (;;) {
      const targets = [...urls.values()]
      // Once nobody is killed any more, the last ones are answered by the process that stays.
      const target = over ? home.url : targets[Math.floor(Math.random() * targets.length)]
      if (!target) {
        await wait(10)
        continue
      }
      tally.asked += 1
      const answer = await post(target, key).catch(() => undefined)
      if (!answer) tally.broken += 1
      else if (answer.code === 'IDEMPOTENCY_IN_FLIGHT') tally.inFlight += 1
      else if (answer.status < 500) {
        if (answer.replayed) tally.replayed += 1
        answers.get(key)!.push(answer)
        return
      } else assert.equal(answer.status, 503, answer.bytes) // shutting down or no connection; never a fault
      await wait(20 + Math.random() * 30)
    }
  }

  async function client(of: number): Promise<void> {
    for (let n = 0; !over; n += 1) {
      const key = `${of}-${n}`
      answers.set(key, [])
      await Promise.all(Array.from({ length: senders }, () => ask(key)))
      if (n % 10 === 0) await ask(key) // and once more, when all is done
    }
  }

  const placed = Array.from({ length: processes }, (_, place) => keepKilling(place))
  try {
    await Promise.all([...placed, ...Array.from({ length: clients }, (_, of) => client(of))])
  } finally {
    over = true
    for (const child of children) child.kill('SIGKILL')
  }

  const db = await connectOnce({ url })
  try {
    const waiting = async () => (await db.query('select from rung.job')).rowCount === 0
    await until(waiting, 'the jobs are done')
    for (const kind of ['first', 'second']) {
      const { rows } = await db.query('select key, count(*)::int n from till.effect where kind = $1 group by key', [
        kind,
      ])
      assert.deepEqual(
        rows.filter(({ n }) => n !== 1),
        [],
        `${kind}: happened more than once`,
      )
      assert.equal(rows.length, answers.size, `${kind}: has not happened for every key`)
    }
    const { rows: jobs } = await db.query('select key, count(*)::int n from till.sequel group by key')
    assert.deepEqual(
      jobs.filter(({ n }) => n !== 1),
      [],
      'a job ran more than once',
    )
    assert.equal(jobs.length, answers.size, 'a job was lost')
  } finally {
    await db.end()
    await home.stop()
  }
  for (const [key, all] of answers) {
    assert.ok(all.length >= senders)
    assert.deepEqual(new Set(all.map(({ bytes }) => bytes)).size, 1, `different answers for ${key}`)
    assert.equal(all[0]!.status, 201)
  }
  return (
    `${killed} kills (${JSON.stringify(tally.byMoment)}); ${answers.size} keys x ${senders} senders, ${tally.asked} requests, ` +
    `${tally.replayed} replays, ${tally.inFlight} in flight, ${tally.broken} broken off; 0 doubled, equal bytes`
  )
}
