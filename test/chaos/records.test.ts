import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { it } from 'node:test'
import type { Undo } from '../../src/chaos/fault.ts'
import { openRecord, undoLeft } from '../../src/chaos/records.ts'
import { withTempDir } from '../support/postgres.ts'

/** A process that has ended. */
const gone = { pid: 2 ** 22 + 1, born: 'once' }

/** Writes down a fault of a process that was killed. */
async function left(dataDir: string, undo: Undo): Promise<void> {
  const before = new Set(await readdir(path.join(dataDir, 'chaos')).catch(() => []))
  await (await openRecord(dataDir, 'kill', 'web-1')).add(undo)
  const [name] = (await readdir(path.join(dataDir, 'chaos'))).filter((one) => !before.has(one))
  const file = path.join(dataDir, 'chaos', name!)
  await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), owner: gone }))
}

it('what was left is undone, each by itself, and remains while that fails', () =>
  withTempDir(async (dataDir) => {
    const ballast = path.join(dataDir, 'ballast')
    await writeFile(ballast, 'x')
    await left(dataDir, { how: 'remove', file: dataDir }) // a folder is not removed
    await left(dataDir, { how: 'remove', file: ballast })
    await left(dataDir, { how: 'ask-fleet', fleet: gone, dataDir, request: { command: 'scale', web: 2 } })
    await left(dataDir, { how: 'resume', processes: [gone] })
    await left(dataDir, { how: 'balance', socket: path.join(dataDir, 'none'), part: 'web-1', port: 1 })
    await left(dataDir, { how: 'upstream', dir: dataDir, address: '127.0.0.1:1', proxy: '127.0.0.1:2' })
    await left(dataDir, { how: 'resume-replay', socketDir: dataDir })
    await assert.rejects(undoLeft(dataDir), { code: 'CHAOS_NOT_UNDONE' })
    assert.equal(existsSync(ballast), false)
    assert.equal((await readdir(path.join(dataDir, 'chaos'))).length, 1)
  }))

it('the record of a process that lives is its own', () =>
  withTempDir(async (dataDir) => {
    const record = await openRecord(dataDir, 'freeze', 'web-1')
    assert.deepEqual(await undoLeft(dataDir), [])
    await record.close()
    assert.deepEqual(await readdir(path.join(dataDir, 'chaos')), [])
  }))
