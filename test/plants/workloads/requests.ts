import type { Recorder } from '../../../src/history.ts'
import { sleep } from '../../../src/kernel/clock.ts'
import { type Random, seededRandom } from '../../../src/kernel/random.ts'
import { bootForTest } from '../../support/app.ts'
import { urlOf } from '../../support/postgres.ts'
import app, { limit } from '../app/app.ts'
import type { Workload } from '../workload.ts'

const [senders, keys, triesMax] = [3, 8, 100]
const [takers, takesEach] = [4, 12]

/** Each request with a key is sent several times, by two principals to two nodes; others come as often as a limit allows, and more often. */
const requests: Workload = {
  promises: ['one-effect', 'rate-limit'],
  async open(postgres) {
    const settings = { DATABASE_URL: urlOf(await postgres.createDatabase()), RUNG_SHEDDING: 'off', RUNG_LIMITS: 'on' }
    const nodes = [
      await bootForTest(app, postgres, {}, [], settings),
      await bootForTest(app, postgres, {}, [], settings),
    ]
    const urls = nodes.map(({ url }) => url)
    return {
      async run(seed, recorder) {
        const parts = { random: seededRandom(seed), urls, recorder }
        const sending = Array.from({ length: keys }, (_, n) =>
          Promise.all(
            ['ann', 'bob'].flatMap((principal) =>
              Array.from({ length: senders }, () => sendOnce(principal, `${seed}.${n}`, parts)),
            ),
          ),
        )
        const taking = Array.from({ length: takers }, () => takeNowAndThen(parts))
        await Promise.all([...sending, ...taking])
        const looking = recorder.begin({ kind: 'effects', session: 'observer', key: 'all' })
        const { keys: found } = (await (await fetch(`${urls[0]}/effects`)).json()) as { keys: string[] }
        looking.ok({ values: found.filter((key) => key.includes(` ${seed}.`)) })
      },
      async close() {
        for (const node of nodes) await node.stop()
      },
    }
  },
}
export default requests

interface Parts {
  random: Random
  urls: readonly string[]
  recorder: Recorder
}

const pick = <T>(from: readonly T[], random: Random) => from[Math.floor(random() * from.length)]!

/** Until it is answered. */
async function sendOnce(authorization: string, key: string, { random, urls, recorder }: Parts): Promise<void> {
  for (let attempt = 0; attempt < triesMax; attempt += 1) {
    const sending = recorder.begin({ kind: 'send', session: authorization, key: `${authorization}: ${key}` })
    const answer = await fetch(`${pick(urls, random)}/effects`, {
      method: 'POST',
      headers: { authorization, 'idempotency-key': key, 'content-type': 'application/json' },
      body: JSON.stringify({ key }),
    })
    const text = await answer.text()
    if (answer.ok) return sending.ok({ value: text })
    sending.info(text)
    await sleep(10 + random() * 30)
  }
  throw new Error(`${key} is not answered`)
}

async function takeNowAndThen({ random, urls, recorder }: Parts): Promise<void> {
  for (let take = 0; take < takesEach; take += 1) {
    await sleep(random() * 300)
    const taking = recorder.begin({ kind: 'take', session: 'anybody', key: 'limited', limit })
    const { ok, status } = await fetch(`${pick(urls, random)}/limited`)
    if (ok) taking.ok()
    else taking.fail(status)
  }
}
