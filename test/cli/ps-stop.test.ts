import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { isRunning, postgresPidOf, processesOn, type Scratch, until, withScratch } from '../support/process.ts'
import { noRedis, testRedis } from '../support/redis.ts'

async function rung({ launch }: Scratch, ...args: string[]) {
  const command = launch({ command: [...args, '--json'] })
  const { code } = await command.exited
  return { code, result: JSON.parse(command.stdout()) }
}

const statesOf = ({ result }: Awaited<ReturnType<typeof rung>>) =>
  result.parts?.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`)

test('rung ps and rung stop know a rung start, from its first moment', () =>
  withScratch(async (scratch) => {
    assert.deepEqual(await rung(scratch, 'ps'), { code: 1, result: { running: false } })
    const wrong = await rung(scratch, 'ps', 'x')
    assert.equal(wrong.result.error?.message, 'Unexpected argument "x". See: rung ps --help')
    const starting = scratch.launch()
    const first = await until(async () => {
      const listed = await rung(scratch, 'ps')
      return listed.result.running && listed
    }, 'it is seen')
    assert.equal(first.code, 0)
    assert.equal(first.result.parts[0].pid, starting.pid)
    await starting.started
    const running = await rung(scratch, 'ps')
    assert.deepEqual(statesOf(running), ['app running', 'postgres running'])
    assert.equal(running.result.parts[1].pid, postgresPidOf(scratch.dataDir))
    const people = scratch.launch({ command: ['ps'] })
    await people.exited
    assert.match(people.stdout(), /^rung start .*\npart .*\napp +running .*127\.0\.0\.1:\d+\npostgres +running .*\n$/)
    const stopped = await rung(scratch, 'stop')
    assert.deepEqual([stopped.code, stopped.result.stopped, stopped.result.pid], [0, true, starting.pid])
    assert.ok(!isRunning(starting.pid))
    assert.deepEqual(await processesOn(scratch.dataDir), [])
    assert.deepEqual(await rung(scratch, 'ps'), { code: 1, result: { running: false } })
    assert.equal((await rung(scratch, 'stop')).result.stopped, false)
  }))

test('rung stop during a start stops it once it has started', () =>
  withScratch(async (scratch) => {
    const starting = scratch.launch()
    await until(async () => (await rung(scratch, 'ps')).result.running, 'it is seen')
    assert.equal((await rung(scratch, 'stop')).result.stopped, true)
    assert.equal((await starting.exited).code, 0)
    assert.deepEqual(await processesOn(scratch.dataDir), [])
  }))

test('a Postgres whose rung start was killed is listed, and ended by rung stop', () =>
  withScratch(async (scratch) => {
    const started = await scratch.start()
    await started.kill()
    await until(async () => statesOf(await rung(scratch, 'ps'))?.[0] === 'postgres left', 'it is left alone')
    const people = scratch.launch({ command: ['ps'] })
    await people.exited
    assert.match(
      people.stdout(),
      /postgres: the process that started it was killed; "rung start" takes it over, "rung stop" ends it/,
    )
    const { result } = await rung(scratch, 'stop')
    assert.deepEqual(result, { stopped: true, data: path.resolve(scratch.dataDir), pid: started.postgresPid })
    assert.deepEqual(await processesOn(scratch.dataDir), [])
    assert.equal((await rung(scratch, 'ps')).code, 1)
    const again = await scratch.start()
    assert.equal((await again.stop()).code, 0)
  }))

test('rung up and rung ps tell which process cannot use its Redis', { skip: noRedis }, async () => {
  const redis = await testRedis()
  try {
    await withScratch(async (scratch) => {
      const RUNG_REDIS_URL = redis.url.replace(/:[^:@]*@/, ':a-wrong-secret@')
      const up = await scratch.start({ up: '10k', args: ['--web', '1', '--worker', '0'], env: { RUNG_REDIS_URL } })
      const web = up.parts!.find(({ name }) => name === 'web-1')
      assert.equal(web?.trouble, 'cannot use Redis; its log says why')
      const people = scratch.launch({ command: ['ps'] })
      assert.equal((await people.exited).code, 0)
      assert.match(people.stdout(), /\nweb-1: cannot use Redis; its log says why\n/)
      const logs = scratch.launch({ command: ['logs', 'web-1'] })
      await logs.exited
      assert.match(logs.stdout(), /Redis cannot be used: .*WRONGPASS.*[^.]\. Until it can/)
      assert.doesNotMatch(logs.stdout() + people.stdout(), /a-wrong-secret/)
    })
  } finally {
    await redis.stop()
  }
})
