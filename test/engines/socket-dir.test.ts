import assert from 'node:assert/strict'
import { chmod, chown, mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { makeSocketDir } from '../../src/engines/process/server-process.ts'

test('a folder for sockets is its owner’s alone: a link and a folder of another user are refused', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  try {
    const own = path.join(dir, 'own')
    await mkdir(own, { mode: 0o755 })
    makeSocketDir(own)
    assert.equal((await stat(own)).mode & 0o777, 0o700)
    const [target, link] = [path.join(dir, 'target'), path.join(dir, 'link')]
    await mkdir(target)
    await chmod(target, 0o755)
    await symlink(target, link)
    assert.throws(() => makeSocketDir(link), { code: 'ENGINE_START_FAILED' })
    assert.equal((await stat(target)).mode & 0o777, 0o755, 'what it leads to is left alone')
    if (process.getuid?.() !== 0) return // only root can give a folder away
    await chown(target, 65_534, 65_534)
    assert.throws(() => makeSocketDir(target), { code: 'ENGINE_START_FAILED' })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
