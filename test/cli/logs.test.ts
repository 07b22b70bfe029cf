import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { withTempDir } from '../support/postgres.ts'

const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
const line = (time: string, facts: object) =>
  `${JSON.stringify({ level: 'error', time: `2026-11-03T10:15:${time}Z`, ...facts })}\n`

describe('rung logs --trace', () => {
  async function withLogs(
    body: (rung: (...args: string[]) => Promise<{ code: number; json: unknown; lines: string[] }>) => Promise<void>,
  ) {
    await withTempDir(async (dir) => {
      const write = async (part: string, text: string) => {
        await mkdir(path.join(dir, 'fleet', part), { recursive: true })
        await writeFile(path.join(dir, 'fleet', part, 'server.log'), text)
      }
      const other = line('00.100', { traceId: 'f'.repeat(32), msg: 'another' })
      await write(
        'web-1',
        line('00.000', { traceId: trace, msg: 'request' }) +
          other.repeat(20_000) +
          line('00.300', { traceId: trace, msg: 'answered' }),
      )
      await write('worker-1', other + line('00.200', { traceparent: `00-${trace}-00f067aa0ba902b7-01`, msg: 'job' }))
      await body(async (...args) => {
        const told = { code: 0, json: undefined as unknown, lines: [] as string[] }
        const out = {
          line: (text = '') => void told.lines.push(text),
          note() {},
          json(view: unknown) {
            told.json = view
          },
        }
        told.code = await main(['logs', ...args], { RUNG_DATA: dir }, dir, out)
        return told
      })
    })
  }

  it('finds what all parts have logged for it, in the order of time, wherever it is in the logs', () =>
    withLogs(async (rung) => {
      const { lines } = (await rung('--trace', trace, '--json')).json as { lines: { part: string; text: string }[] }
      assert.deepEqual(
        lines.map(({ part, text }) => [part, JSON.parse(text).msg]),
        [
          ['web-1', 'request'],
          ['worker-1', 'job'],
          ['web-1', 'answered'],
        ],
      )
      const fromHeader = await rung('worker', '--trace', `00-${trace}-b9c7c989f97918e1-01`)
      assert.match(fromHeader.lines.join('\n'), /^worker-1 {2}\{.*"msg":"job"\}$/)
      assert.deepEqual((await rung('--trace', 'a'.repeat(32))).lines, [
        `Nothing of trace ${'a'.repeat(32)} is in the logs.`,
      ])
    }))

  it('refuses what is no trace, and to follow one', () =>
    withLogs(async (rung) => {
      for (const args of [
        ['--trace', 'abc'],
        ['--trace', trace, '-f'],
      ])
        assert.equal((await rung(...args)).code, 1)
    }))
})
