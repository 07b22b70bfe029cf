import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHaproxy } from '../support/haproxy.ts'
import { noNats } from '../support/nats.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { PositionJar } from '../support/position-jar.ts'
import { type Facts, openScratch, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const app = fileURLToPath(new URL('../support/apps/guild/app.ts', import.meta.url))

describe('a climb from 100k to 500k and back', { skip: noRedis || noHaproxy || noPooler || noNats }, () => {
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    const env = { RUNG_EDGE: 'off', RUNG_WEB: '2', RUNG_REPLICAS: '1' }
    facts = await scratch.launch({ up: '100k', app, env }).started
  })
  after(() => scratch?.end())

  async function rung(command: string[]) {
    const done = scratch.launch({ command: [...command, '--json'] })
    const exit = await done.exited
    assert.equal(exit.code, 0, done.stdout() + done.stderr())
    return JSON.parse(done.stdout())
  }

  /** Writes through one call and reads through another, until `over`; returns the last version. */
  async function session(id: number, over: () => boolean): Promise<number> {
    const jar = new PositionJar()
    const ask = async (path: string, method = 'GET') => {
      const answer = await fetch(`${facts.url}${path}`, { method, headers: { ...jar.header, connection: 'close' } })
      jar.note(answer.headers)
      const text = await answer.text()
      assert.equal(answer.status, 200, `${method} ${path}: ${text}`)
      return JSON.parse(text)
    }
    for (let version = 1; ; version += 1) {
      assert.deepEqual(await ask(`/desk/${id}/at-${version}`, 'PUT'), { version })
      for (const path of ['desk', 'kept', 'cached']) {
        const { person } = await ask(`/${path}/${id}`)
        assert.equal(person.version, version, path)
      }
      if (over()) return version
    }
  }

  it('fails no request, loses and doubles no event, and each session sees what it has written', async () => {
    let over = false
    const sessions = [1, 2, 3].map((id) => session(id, () => over))
    let outcomes: unknown[] = []
    try {
      const up = await rung(['climb', '500k', '--accept', 'backup,drill,memory,cores', '--watch', '0s'])
      const apart = await rung(['extract', 'people', '--name', 'folk'])
      const joined = await rung(['extract', 'people', '--undo'])
      const down = await rung(['climb', '--undo', '--accept', 'backup,drill,memory,cores', '--watch', '0s'])
      outcomes = [up.outcome, apart.outcome, joined.outcome, down.outcome, down.to]
    } finally {
      over = true
    }
    const versions = await Promise.all(sessions)
    assert.deepEqual(outcomes, ['done', 'done', 'done', 'done', '100k'])
    for (const [index, version] of versions.entries()) {
      const wanted = Array.from({ length: version }, (_, n) => n + 1)
      const told = async (): Promise<number[]> =>
        ((await (await fetch(`${facts.url}/press/${index + 1}`)).json()) as { version: number }[]).map(
          (one) => one.version,
        )
      await until(
        async () => (await told()).length === version,
        () => `all ${version} events of ${index + 1} are handled`,
      )
      assert.deepEqual(await told(), wanted)
    }
  })
})
