import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { request } from 'node:http'
import path from 'node:path'
import { test } from 'node:test'
import { openProcessDoor } from '../../src/cli/process-door.ts'
import { TraceRing } from '../../src/observe/traces/ring.ts'
import { ledgerProject, readHandler } from '../support/deploys.ts'
import { type Scratch, until, withScratch } from '../support/process.ts'

const spin = `${readHandler}
      function spin() {
        let sum = 0
        for (let n = 0; n < 3_000_000; n += 1) sum = (31 * sum + n) % 1_000_003
        return sum
      }
      reply.header('x-sum', spin())`

async function profile({ launch, dir }: Scratch, ...args: string[]) {
  const command = launch({ command: ['profile', ...args, '--json'], cwd: dir })
  const { code } = await command.exited
  return { code, view: JSON.parse(command.stdout()) }
}

test('rung profile finds what uses the CPU of a process that answers, and leaves no door behind', () =>
  withScratch(async (scratch) => {
    const none = await profile(scratch)
    assert.equal(none.view.error.code, 'FLEET_NOT_RUNNING')
    const { app, write } = await ledgerProject(path.join(scratch.dir, 'ledger'))
    await write('1', { [readHandler]: spin })
    const started = await scratch.start({ app })
    const asking = { ended: false }
    const answers: Record<number, number> = {}
    scratch.atEnd(() => {
      asking.ended = true // also where the test fails
    })
    const asked = (async () => {
      while (!asking.ended)
        await fetch(`${started.url}/entries/x`).then(
          (answer) => {
            answers[answer.status] = (answers[answer.status] ?? 0) + 1
            return answer.text()
          },
          () => {}, // the test failed, and its end has ended the app
        )
    })()
    const file = path.join(scratch.dir, 'app.cpuprofile')
    const { code, view } = await profile(scratch, 'app', '--for', '3s', '--last', '1000', '--out', file)
    assert.equal(code, 0, JSON.stringify(view))
    assert.deepEqual([view.part, view.file], ['app', file])
    // The loop may be counted as part of its caller, the handler, if V8 has optimized it before the profile began.
    const found = view.functions.find(({ at }: { at: string }) => /^ledger\/app\.ts:\d+$/.test(at))
    assert.ok(found, JSON.stringify({ answers, view }))
    assert.match(found.name, /^(spin|anonymous)$/)
    assert.ok(found.own > 0 && found.own <= view.busy, JSON.stringify(found))
    assert.ok(
      view.places.some(({ place, share }: { place: string; share: number }) => place === 'ledger/' && share > 0),
    )
    assert.ok(JSON.parse(readFileSync(file, 'utf8')).nodes.length > 10)

    const doors = path.join(scratch.dataDir, 'fleet', 'doors')
    const [socket] = readdirSync(doors)
    assert.equal(statSync(doors).mode & 0o777, 0o700)
    assert.equal(statSync(path.join(doors, socket!)).mode & 0o777, 0o600)

    const begin = () => {
      const command = scratch.launch({ command: ['profile', '--for', '1m', '--out', file], cwd: scratch.dir })
      const one = { ...command, hasEnded: false }
      void command.exited.then(() => {
        one.hasEnded = true
      })
      return one
    }
    let long = begin()
    // It is being taken once another one is refused.
    const refused = await until(async () => {
      const { view } = await profile(scratch, '--for', '1ms')
      if (long.hasEnded) long = begin() // it was refused itself, by a short one
      return view.error && view
    }, 'the process is profiled')
    assert.equal(refused.error.code, 'PROFILE_UNAVAILABLE')
    assert.match(refused.error.message, /Another profile is being taken/)
    await long.stop('SIGKILL')
    await until(async () => (await profile(scratch, '--for', '1ms')).code === 0, 'it can be profiled again')

    for (const [args, message] of [
      [['web-7'], /No process of the app is named "web-7"\. These run: app\./],
      [['--for', '61s'], /--for must be at most 1m 0s/],
      [['--for', '1ms', '--out', path.join(scratch.dir, 'none', 'x')], /cannot be written/],
    ] as const) {
      const { code, view } = await profile(scratch, ...args)
      assert.equal(code, 1)
      assert.match(view.error.message, message)
    }
    asking.ended = true
    await asked
    await started.stop()
    assert.deepEqual(readdirSync(doors), [])
  }))

test('the door of a process refuses what it does not understand, and closes', () =>
  withScratch(async ({ dataDir }) => {
    const close = await openProcessDoor(dataDir, {
      traces: (query) => new TraceRing().answer(query),
    })
    const doors = path.join(dataDir, 'fleet', 'doors')
    const socketPath = path.join(doors, readdirSync(doors)[0]!)
    const status = (method: string, path: string) =>
      new Promise((resolve, reject) => {
        const sent = request({ socketPath, path, method }, (answer) => resolve(answer.resume().statusCode))
        sent.once('error', reject).end()
      })
    for (const query of ['', 'query=', 'query=null', 'query=%7B', 'query=%7B%22route%22:7%7D']) {
      assert.equal(await status('GET', `/traces?${query}`), 400, query)
    }
    for (const where of ['/', '//', '/profile?ms=1', '/other']) assert.equal(await status('GET', where), 400, where)
    assert.equal(await status('POST', '/profile?ms=-1'), 400)
    assert.equal(await status('GET', '/traces?query=%7B%22last%22:1%7D'), 200)
    await close()
    assert.deepEqual(readdirSync(doors), [])
  }))
