import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, readFile, truncate, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isRungError } from '../../../src/kernel/errors.ts'
import { diskFiles } from '../../../src/primitives/files/disk.ts'
import { createFiles, type Files } from '../../../src/primitives/files/files.ts'
import { withTempDir } from '../../support/postgres.ts'
import { withSmallDisk } from '../../support/small-disk.ts'

const rounds = 30
const putter = fileURLToPath(new URL('../../support/put-and-die.ts', import.meta.url))

async function openFiles(folder: string): Promise<Files> {
  return createFiles(await diskFiles({ folder }), new Uint8Array(32)).forModule('m')
}

/** Everything in the folder, drafts and empty folders included. */
async function everything(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch(() => [])
  return names.filter((name) => name !== '.drafts').sort()
}

async function drafts(folder: string): Promise<string[]> {
  return readdir(path.join(folder, '.drafts')).catch(() => [])
}

/** Starts a process that puts, and kills it `delayMs` after it said `line`. The digest, if it had said that it has stored. */
async function killAt(folder: string, key: string, line: string, delayMs: number): Promise<string | undefined> {
  const child = spawn(process.execPath, ['--conditions=rung-source', putter, folder, key], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'close')
  let stored: string | undefined
  for await (const said of createInterface(child.stdout)) {
    if (said.startsWith('stored ')) stored = said.slice('stored '.length)
    if (said !== line) continue
    const until = performance.now() + delayMs
    while (performance.now() < until); // a timer would be too coarse
    child.kill('SIGKILL')
  }
  await ended
  return stored
}

describe('files on disk', () => {
  it(`after kill -9 in the middle of put are absent or complete, ${rounds} times`, (t) =>
    withTempDir(async (folder) => {
      await (await openFiles(folder)).put('replaced', 'the first content')
      let complete = 0
      let left = 0
      for (let round = 0; round < rounds; round += 1) {
        // Through the upload, and then densely through its end: fsync, rename, fsync of the folder.
        const chunk = round < 8 ? 1 + round * 4 : 32
        const delayMs = round < 8 ? 0 : (round - 8) * 1.5
        const key = round % 2 === 0 ? `deep/new-${round}` : 'replaced'
        const stored = await killAt(folder, key, `chunk ${chunk}`, delayMs)
        left += (await drafts(folder)).length
        const files = await openFiles(folder)
        assert.deepEqual(await drafts(folder), [], 'the next start removes what was left')
        const info = await files.stat(key)
        if (stored !== undefined) assert.equal(info?.sha256, stored, 'acknowledged and lost')
        if (key === 'replaced') assert.ok(info, 'what was there before is gone')
        if (!info) continue
        const { body, sha256, size } = await files.get(key)
        const bytes = Buffer.concat(await body.toArray())
        assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256)
        assert.equal(bytes.length, size)
        if (size === 32 * 64 * 1024) complete += 1
      }
      t.diagnostic(
        `${rounds} kills: ${left} drafts were left and removed, ${complete} times a new content was found complete`,
      )
    }))

  it('leave nothing behind on a full disk, and go on when there is space', (t) =>
    withSmallDisk(t, 8, async (disk) => {
      const folder = path.join(disk, 'files')
      const files = await openFiles(folder)
      await files.put('kept', 'before')
      const before = await everything(folder)
      for (const key of ['kept', 'new/deep/key']) {
        await assert.rejects(
          files.put(key, randomBytes(16 * 1024 * 1024)),
          (error) => isRungError(error, 'FILES_DISK_FULL') && (error.cause as { code?: string }).code === 'ENOSPC',
        )
        assert.deepEqual(await everything(folder), before)
      }
      assert.equal(String(await (await files.get('kept')).body.toArray()), 'before')
      await files.put('new/deep/key', randomBytes(4 * 1024 * 1024))
    }))

  it('leave no draft and no empty folder behind, whatever happens', () =>
    withTempDir(async (folder) => {
      const files = await openFiles(folder)
      await files.put('a/b/c', 'x')
      await files.put('a/b/c', 'y', { ifAbsent: true }).catch(() => {})
      await files.put('d/e', randomBytes(100), { sizeMax: 10 }).catch(() => {})
      await files.put('d/e', randomBytes(100_000), { sha256: '0'.repeat(64) }).catch(() => {})
      assert.deepEqual(await everything(folder), ['m+', 'm+/a+', 'm+/a+/b+', 'm+/a+/b+/c'])
      await files.delete('a/b/c')
      assert.deepEqual(await everything(folder), [])
    }))

  it('remove drafts of processes that are no more, and of others after a day', () =>
    withTempDir(async (folder) => {
      const at = path.join(folder, '.drafts')
      await mkdir(at)
      const host = hostname().replace(/[^A-Za-z0-9-]/g, '-')
      const names = {
        alive: `${host}.1.00000000.a`, // some process that runs
        dead: `${host}.4194305.00000000.a`, // above the largest pid of Linux
        before: `${host}.${process.pid}.00000000.a`, // this number, in an earlier life
        elsewhere: 'other-host.1.00000000.a',
        old: 'other-host.1.00000000.b',
      }
      for (const name of Object.values(names)) await writeFile(path.join(at, name), '')
      const dayAgo = new Date(Date.now() - 25 * 3_600_000)
      await utimes(path.join(at, names.old), dayAgo, dayAgo)
      await openFiles(folder)
      assert.deepEqual((await drafts(folder)).sort(), [names.alive, names.elsewhere].sort())
    }))

  it('do not touch the drafts of an upload that goes on', () =>
    withTempDir(async (folder) => {
      const files = await openFiles(folder)
      const { promise, resolve } = Promise.withResolvers<void>()
      async function* slow() {
        yield randomBytes(10_000)
        await openFiles(folder)
        resolve()
        yield randomBytes(10_000)
      }
      await Promise.all([files.put('slow', slow()), promise])
      assert.equal((await files.stat('slow'))?.size, 20_000)
    }))

  it('say so when one is damaged', () =>
    withTempDir(async (folder) => {
      const files = await openFiles(folder)
      await files.put('a', randomBytes(10_000))
      const file = path.join(folder, 'm+', 'a')
      await truncate(file, 9_000)
      for (const ask of [() => files.get('a'), () => files.stat('a')]) {
        await assert.rejects(ask, (error) => isRungError(error, 'FILES_DAMAGED'))
      }
      await writeFile(file, (await readFile(file)).subarray(0, 100))
      await assert.rejects(files.get('a'), (error) => isRungError(error, 'FILES_DAMAGED'))
    }))

  it('have a code when the folder cannot be used', () =>
    withTempDir(async (dir) => {
      const files = await openFiles(path.join(dir, 'files'))
      await writeFile(path.join(dir, 'files'), 'a file where the folder should be')
      const refused = (error: unknown) =>
        isRungError(error, 'FILES_UNAVAILABLE') && error.cause instanceof Error && !error.message.includes(dir)
      await assert.rejects(files.put('a', 'x'), refused)
      await assert.rejects(files.get('a'), refused)
      await assert.rejects(files.list(), refused)
    }))
})
