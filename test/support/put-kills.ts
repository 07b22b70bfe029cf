import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { keysOf } from '../../src/kernel/keys.ts'
import { diskFiles } from '../../src/primitives/files/disk.ts'
import { createFiles, type Files } from '../../src/primitives/files/files.ts'

const putter = fileURLToPath(new URL('./put-and-die.ts', import.meta.url))

export async function openFiles(folder: string): Promise<Files> {
  return createFiles(await diskFiles({ folder }), keysOf(new Uint8Array(32))).forModule('m')
}

export async function drafts(folder: string): Promise<string[]> {
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

/**
 * Kills processes in the middle of a put.
 * @param rounds how many
 * @returns what happened, in one sentence
 * @throws AssertionError when a file is there in part, or gone although it was acknowledged
 */
export async function killPuts(folder: string, rounds: number): Promise<string> {
  await (await openFiles(folder)).put('replaced', 'the first content')
  let complete = 0
  let left = 0
  for (let round = 0; round < rounds; round += 1) {
    // A quarter of them through the upload, the others densely through its end: fsync, rename, fsync of the folder.
    const early = Math.floor(rounds / 4)
    const chunk = round < early ? 1 + Math.floor((round * 32) / early) : 32
    const delayMs = round < early ? 0 : ((round - early) * 32) / (rounds - early)
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
  return `${rounds} kills: ${left} drafts were left and removed, ${complete} times a new content was found complete`
}
