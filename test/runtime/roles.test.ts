import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { main } from '../../src/cli/main.ts'
import { type Scratch, until, withScratch } from '../support/process.ts'

const app = fileURLToPath(new URL('../support/apps/orders/app.ts', import.meta.url))

async function place(url: string, note: string): Promise<number> {
  const response = await fetch(`${url}/orders`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ note }),
  })
  assert.equal(response.status, 201)
  return ((await response.json()) as { id: number }).id
}
const effects = async (url: string, id: number) => (await fetch(`${url}/effects/${id}`)).json() as Promise<string[]>

/** The CLI in this process. */
async function rung(scratch: Scratch, ...args: string[]): Promise<{ code: number; lines: string[]; json: never }> {
  const lines: string[] = []
  let json: unknown
  const out = {
    line: (text = '') => void lines.push(text),
    json(value: unknown) {
      json = value
    },
    note() {},
  }
  const code = await main(args, { RUNG_DATA: scratch.dataDir, LOG_LEVEL: 'silent' }, scratch.dir, out)
  return { code, lines, json: json as never }
}

test('web and worker are processes of their own on one data directory', async () => {
  await withScratch(async (scratch) => {
    // The worker may come first: it waits for the database.
    const worker = scratch.launch({ app, args: ['--role', 'worker'] })
    const web = await scratch.start({ app, args: ['--role', 'web'], firstStart: true })
    const facts = await worker.started
    assert.equal((await fetch(`${facts.url}/orders`, { method: 'POST' })).status, 404, 'a worker takes no requests')
    assert.equal((await fetch(`${facts.url}/readyz`)).status, 200)

    const first = await place(web.url, 'a')
    await until(async () => (await effects(web.url, first)).length === 2, 'the worker has done it')
    assert.deepEqual(await effects(web.url, first), ['billed', 'shipped'])
    const metrics = await (await fetch(`${facts.url}/metrics`)).text()
    assert.match(metrics, /job_duration_seconds_count\{queue="orders.ship",name="orders.ship",outcome="done"\} 1/)

    // Without a worker it waits, in sight.
    await worker.kill()
    const second = await place(web.url, 'b')
    const poison = await place(web.url, 'poison')
    const { lines } = await rung(scratch, 'jobs')
    assert.match(lines[0]!, /^queue +waiting +delayed +running +dead +oldest$/)
    assert.match(lines[1]!, /^orders\.ship +2 +0 +0 +0 {2}\S/)
    const { json: groups } = await rung(scratch, 'events', '--json')
    assert.deepEqual(
      (groups as { group: string; events: string[]; waiting: number }[]).map(({ group, events, waiting }) => [
        group,
        events,
        waiting,
      ]),
      [['billing', ['orders.placed'], 2]],
    )
    assert.ok((await rung(scratch, 'jobs', 'list')).lines.some((line) => line.includes('waiting')))

    const again = scratch.launch({ app, args: ['--role', 'worker'] })
    await again.started
    await until(async () => (await effects(web.url, second)).length === 2, 'the next worker has done it')

    // Dead ones are shown, tried again, cancelled.
    type Listed = { id: number; state: string; error: string }[]
    const dead = await until(async () => {
      const { json } = await rung(scratch, 'jobs', 'list', '--state', 'dead', '--json')
      return (json as Listed).length > 0 ? (json as Listed) : undefined
    }, 'the poison is dead')
    assert.equal(dead[0]!.error, 'nobody can ship this')
    assert.equal((await rung(scratch, 'jobs', 'retry', '--dead')).code, 0)
    await until(async () => {
      const { json } = await rung(scratch, 'jobs', 'show', String(dead[0]!.id), '--json')
      return (json as Listed)[0]?.state === 'dead'
    }, 'it is dead again')
    assert.equal((await rung(scratch, 'jobs', 'cancel', String(dead[0]!.id))).code, 0)
    assert.equal((await rung(scratch, 'jobs', 'show', String(dead[0]!.id))).code, 1)
    assert.deepEqual((await rung(scratch, 'jobs')).lines, ['No job waits, runs or is dead.'])
    assert.deepEqual(await effects(web.url, poison), ['billed'])

    for (const wrong of [
      ['jobs', 'dance'],
      ['jobs', 'show', 'x'],
      ['jobs', 'list', '--state', 'odd'],
      ['events', 'drop'],
    ]) {
      assert.equal((await rung(scratch, ...wrong)).code, 1, wrong.join(' '))
    }
    assert.equal((await rung(scratch, 'events', 'drop', 'billing')).code, 0)

    assert.equal((await again.stop()).code, 0)
    assert.equal((await web.stop()).code, 0)
  })
})
