import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { commandOf, processesOn, type Scratch, until, withScratch } from '../support/process.ts'

const env = { RUNG_CONSOLE: 'show' }
async function consolesOf({ dataDir }: Scratch): Promise<number[]> {
  const all = await Promise.all((await processesOn(dataDir)).map(async (pid) => ({ pid, words: await commandOf(pid) })))
  return all.filter(({ words }) => words.includes('console')).map(({ pid }) => pid)
}

async function look(address: string, { dataDir }: Scratch, where = ''): Promise<Response> {
  const token = (await readFile(path.join(dataDir, 'console-token'), 'utf8')).trim()
  return fetch(`${address}${where}`, {
    // A connection that is kept may be one to a process that has just ended.
    headers: { authorization: `Bearer ${token}`, connection: 'close' },
  })
}

test('rung start prints where the console is, runs it once somebody comes, and ends with it', () =>
  withScratch(async (scratch) => {
    const app = scratch.launch({ env })
    const facts = await app.started
    const address = String(facts.console)
    assert.match(address, /^http:\/\/127\.0\.0\.1:\d+\/$/, 'without the token, since this output is kept')
    assert.deepEqual(await consolesOf(scratch), [])

    const many = await Promise.all(Array.from({ length: 5 }, () => fetch(`${address}about`)))
    assert.deepEqual(new Set(many.map(({ status }) => status)), new Set([401]), 'a stranger gets nothing')
    assert.equal((await consolesOf(scratch)).length, 1)

    const fleet = await look(address, scratch, 'view/fleet')
    const { view } = (await fleet.json()) as { view: { parts: { name: string }[] } }
    assert.deepEqual(view.parts.map(({ name }) => name).sort(), ['app', 'postgres'])
    assert.deepEqual(((await (await look(address, scratch, 'about')).json()) as { acts: boolean }).acts, false)

    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const open = await look(address, scratch, 'live?view=fleet')
      const [serving] = await consolesOf(scratch)
      process.kill(serving!, signal)
      await open.text().catch(() => {}) // it ends, and the page asks again
      await until(async () => !(await consolesOf(scratch)).includes(serving!), `the process of the console has ended`)
      assert.equal((await look(address, scratch, 'view/fleet')).status, 200, 'the next one is started')
    }

    // Those that are on their way to a process that is killed end, or come to the next one. None hangs.
    const onTheirWay = Array.from({ length: 16 }, () => look(address, scratch, 'about').then(String, String))
    for (const pid of await consolesOf(scratch)) process.kill(pid, 'SIGKILL')
    await Promise.all(onTheirWay)

    const left = await look(address, scratch, 'live?view=fleet')
    assert.equal((await app.stop()).code, 0)
    assert.deepEqual(await processesOn(scratch.dataDir), [])
    await left.text().catch(() => {})
  }))

test('rung console --token prints the token of this data directory', () =>
  withScratch(async (scratch) => {
    const command = scratch.launch({ command: ['console', '--token'] })
    assert.equal((await command.exited).code, 0)
    assert.equal(command.stdout(), await readFile(path.join(scratch.dataDir, 'console-token'), 'utf8'))
  }))

test('the console of an app that was killed ends, and the next start opens it again', () =>
  withScratch(async (scratch) => {
    const app = scratch.launch({ env: { RUNG_CONSOLE: 'act' } })
    const address = String((await app.started).console)
    assert.deepEqual(((await (await look(address, scratch, 'about')).json()) as { acts: boolean }).acts, true)
    const open = await look(address, scratch, 'live?view=fleet')
    await app.kill()
    await open.text().catch(() => {})
    await until(async () => (await consolesOf(scratch)).length === 0, 'the process of the console is gone')
    const again = scratch.launch({ env })
    assert.equal((await look(String((await again.started).console), scratch)).status, 200)
  }))
