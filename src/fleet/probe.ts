import http from 'node:http'
import https from 'node:https'
import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import type { Topology } from '../topology/topology.ts'
import { engines } from './engines.ts'
import { unusableEngine } from './status.ts'
import type { SupervisedPart } from './supervisor.ts'

const answerWithinMs = 5_000

export interface Probed {
  topology: Topology
  /** Where clients connect. */
  url: string
  dataDir: string
  parts: readonly SupervisedPart[]
}

/**
 * Tries out a fleet: every part runs, every process of the app can use its engines, every replica shows what the primary has committed,
 * and the entry answers.
 * @returns what was seen, in sentences
 * @throws ENGINE_START_FAILED with the part that is not well
 */
export async function probe({ topology, url, dataDir, parts }: Probed): Promise<string[]> {
  const lost = parts.find(({ state }) => state.state !== 'running')
  if (lost) throw unwell(`${lost.part.name} ${lost.state.trouble ?? `is ${lost.state.state}`}.`)
  const apps = parts.filter(({ part }) => part.kind === 'app')
  for (const { part } of apps) {
    const trouble = await unusableEngine(part.address)
    if (trouble !== undefined) throw unwell(`${part.name} ${trouble}.`)
  }
  const users =
    apps.length === 1 ? 'the one process of the app uses its' : `the ${apps.length} processes of the app use their`
  const seen = [`${parts.length} parts run, and ${users} engines.`]
  const asked = parts.map(({ part: { name, address } }) => ({ name, address }))
  for (const engine of engines) {
    for (const [name, { lagMs }] of (await engine.roles?.(asked, dataDir, topology.data.lagMsMax)) ?? []) {
      if (lagMs === undefined) continue
      if (lagMs > topology.data.lagMsMax) throw unwell(`${name} lags by ${formatMs(lagMs)}.`)
      seen.push(`${name} shows what the primary had committed after ${formatMs(lagMs)}.`)
    }
  }
  const { origin } = new URL(url)
  const status = await statusAt(origin).catch((cause) => {
    throw unwell(`The entry at ${origin} does not answer.`, cause)
  })
  if (status >= 500) throw unwell(`The entry at ${origin} answers with ${status}.`)
  return [...seen, `The entry answers at ${origin}.`]
}

/** The certificate is that of the public name, and not of this address. */
function statusAt(origin: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const get = origin.startsWith('https:') ? https.get : http.get
  get(origin, { agent: false, rejectUnauthorized: false, timeout: answerWithinMs }, (answer) => {
    answer.resume()
    resolve(answer.statusCode!)
  })
    .once('error', reject)
    .once('timeout', function (this: http.ClientRequest) {
      this.destroy(new Error(`no answer within ${answerWithinMs / 1000} s`))
    })
  return promise
}

function unwell(message: string, cause?: unknown): RungError {
  return new RungError('ENGINE_START_FAILED', message, { cause })
}
