import assert from 'node:assert/strict'
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { it } from 'node:test'
import { createRecorder, readHistory } from '../../src/history.ts'
import { withScratch } from '../support/process.ts'

it('a history is the same when it is read from its file', () =>
  withScratch(async ({ dir }) => {
    const file = path.join(dir, 'history.jsonl')
    let at = 0
    const recorder = createRecorder({ file, now: () => ++at })
    const one = recorder.begin({ kind: 'write', session: 'a', key: 'k', value: 'x' })
    const two = recorder.begin({ kind: 'read', session: 'b', key: 'k' })
    recorder.begin({ kind: 'write', session: 'c', key: 'k', value: 'z' })
    two.ok({ value: null, node: 'web-2', position: { main: '1/0/1' } })
    two.fail('too late to count')
    one.info(new Error('no answer'))
    await recorder.close()
    const operations = recorder.operations()
    assert.deepEqual(await readHistory(file), operations)
    assert.deepEqual(
      operations.map(({ outcome, value, beganAt, endedAt, error }) => ({ outcome, value, beganAt, endedAt, error })),
      [
        { outcome: 'info', value: 'x', beganAt: 1, endedAt: 5, error: 'Error: no answer' },
        { outcome: 'ok', value: null, beganAt: 2, endedAt: 4, error: undefined },
        { outcome: 'info', value: 'z', beganAt: 3, endedAt: Number.POSITIVE_INFINITY, error: undefined },
      ],
    )

    await appendFile(file, '{"id":3,"type":"inv')
    assert.equal((await readHistory(file)).length, 3, 'the last line may be incomplete')
    await writeFile(file, `nonsense\n${await readFile(file, 'utf8')}`)
    await assert.rejects(readHistory(file), { code: 'HISTORY_INVALID', message: /^Line 1 of / })
  }))

it('a file that cannot be written is an error in the end', async () => {
  const recorder = createRecorder({ file: '/nowhere/history.jsonl' })
  recorder.begin({ kind: 'read', session: 'a', key: 'k' }).ok()
  await assert.rejects(recorder.close(), { code: 'ENOENT' })
})
