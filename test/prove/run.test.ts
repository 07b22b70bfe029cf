import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import type { Proof } from '../../src/prove/proof.ts'
import { prove } from '../../src/prove/run.ts'

const never = new AbortController().signal

/** Proves an app that says yes to everything, for an hour. @returns why there is no verdict, and the history that is kept */
async function proving(proof: Partial<Proof>, over = never): Promise<{ message: string; history: string[] }> {
  const server = createServer((_request, response) => void response.end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dataDir = await mkdtemp(path.join(tmpdir(), 'rung-prove-test-'))
  const historyFile = path.join(dataDir, 'history.jsonl')
  try {
    const { port } = server.address() as AddressInfo
    const options = {
      planned: [],
      historyFile,
      over,
      url: `http://127.0.0.1:${port}`,
      dataDir,
      tell() {},
      onSecond() {},
    }
    const { message } = await prove({
      ...{ proof: { users: async () => [{}], ...proof }, seed: 1, forMs: 3_600_000, ...options },
    }).then(
      () => assert.fail('there was a verdict'),
      (error) => error,
    )
    return { message, history: (await readFile(historyFile, 'utf8')).trimEnd().split('\n') }
  } finally {
    server.close()
    await rm(dataDir, { recursive: true })
  }
}

const noteRead = (read: () => string): Partial<Proof> => ({
  registers: [{ name: 'note', keys: () => ['7'], write: async () => {}, read: async () => read() }],
})

describe('a proof', () => {
  it('ends at the first mistake of its file, and its history is complete', async () => {
    let reads = 0
    const { message, history } = await proving(
      noteRead(() => {
        reads += 1
        if (reads < 3) return 'v1'
        throw new TypeError('note is not a function')
      }),
    )
    assert.equal(message, 'A function of the proof has thrown: note is not a function')
    assert.equal(history.filter((line) => JSON.parse(line).kind === 'read').length, reads)
    assert.match(history.join('\n'), /"type":"info".*"error":"note is not a function"/)
  })

  it('says why its users could not be made', async () => {
    const users = async () => assert.fail('there is no such address')
    assert.equal(
      (await proving({ users })).message,
      'The users of the proof could not be made: there is no such address',
    )
  })

  it('ends while it makes its users', async () => {
    const ending = new AbortController()
    const { message } = await proving(
      noteRead(() => {
        ending.abort()
        return 'v1'
      }),
      ending.signal,
    )
    assert.equal(message, 'The proof was ended before its time.')
  })
})
