import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import type { EngineEvents } from '../../src/engines/process/engine.ts'
import { logFileOf } from '../../src/engines/process/server-process.ts'
import { partStarter } from '../../src/fleet/parts.ts'
import type { CommandPart, EnginePart } from '../../src/fleet/placement.ts'
import { freePort } from '../support/ports.ts'

/** Answers `/healthz` with what it is given, and does not end when it is told to. */
const stubborn = `
  process.on('SIGTERM', () => {})
  require('node:http').createServer((_, response) => response.end(process.argv[2])).listen(process.argv[1], '127.0.0.1')
`

test('a process has as long to stop as it says that it needs, and an edge learns how long a request may take, and whom the app trusts', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const { start, slowestStopMs } = partStarter(
    () => {},
    async () => true,
    () => [],
  )
  const none = new AbortController().signal
  const trustedProxies = ['10.0.0.0/8']
  const told = JSON.stringify({ status: 'ok', requestTimeoutMs: 120_000, stopTimeoutMs: 150, trustedProxies })
  const port = await freePort()
  const part: CommandPart = {
    ...{ kind: 'app', role: 'web', name: 'web-1', startWave: 0, stopWave: 0, dir, log: logFileOf(dir) },
    ...{ program: process.execPath, args: ['-e', stubborn, String(port), told], cwd: dir, env: process.env },
    ...{ address: `127.0.0.1:${port}`, healthUrl: `http://127.0.0.1:${port}/healthz` },
  }
  const running = await start(part, none, () => {})
  try {
    assert.equal(slowestStopMs(), 150)
    let heard: EngineEvents | undefined
    const edge: EnginePart = {
      ...{
        kind: 'engine',
        engine: 'e',
        isFront: false,
        name: 'edge',
        startWave: 1,
        stopWave: 1,
        dir,
        log: '',
        address: '',
        options: {},
      },
      async start(events) {
        heard = events
        return running
      },
    }
    await start(edge, none, () => {})
    assert.equal(heard?.requestTimeoutMs, 120_000)
    assert.deepEqual(heard.trustedProxies, trustedProxies)
    await running.stop()
    assert.match(await running.exited, /SIGKILL/)
  } finally {
    running.kill()
    await rm(dir, { recursive: true, force: true })
  }
})
