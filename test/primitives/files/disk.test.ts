import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, truncate, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import { isRungError } from '../../../src/kernel/errors.ts'
import { withTempDir } from '../../support/postgres.ts'
import { drafts, killPuts, openFiles } from '../../support/put-kills.ts'
import { withSmallDisk } from '../../support/small-disk.ts'

/** `bench/kills.ts`: 100. */
const rounds = 8

/** Everything in the folder, drafts and empty folders included. */
async function everything(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch(() => [])
  return names.filter((name) => name !== '.drafts').sort()
}

describe('files on disk', () => {
  it(`after kill -9 in the middle of put are absent or complete, ${rounds} times`, (t) =>
    withTempDir(async (folder) => t.diagnostic(await killPuts(folder, rounds))))

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
