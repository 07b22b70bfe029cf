import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { askProgram } from '../../src/engines/process/ask-program.ts'
import { findProgram } from '../../src/engines/process/program.ts'

test('a program that does not end is ended, and named with what it was asked', () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'rung-test-'))
  try {
    const silent = path.join(dir, 'silent-server')
    writeFileSync(silent, '#!/bin/sh\nexec sleep 600\n', { mode: 0o755 })
    assert.throws(() => askProgram(silent, ['--version'], { timeoutMs: 300 }), {
      code: 'ENGINE_START_FAILED',
      message: /silent-server --version has not ended within 0\.3 s\. Run it by hand/,
    })
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('what ends is told as it is; what is not there has no status', () => {
  assert.deepEqual(askProgram('/bin/sh', ['-c', 'echo out; echo err >&2; exit 3']), {
    status: 3,
    signal: null,
    stdout: 'out\n',
    stderr: 'err\n',
  })
  assert.equal(askProgram('/nowhere/program', []).status, null)
  assert.equal(findProgram(['no-such-program-here'], '--version'), undefined)
})
