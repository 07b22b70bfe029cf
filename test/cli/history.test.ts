import assert from 'node:assert/strict'
import { appendFile } from 'node:fs/promises'
import path from 'node:path'
import { it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { createRecorder } from '../../src/history.ts'
import { withScratch } from '../support/process.ts'

async function check(...words: string[]) {
  const lines: string[] = []
  const documents: unknown[] = []
  const code = await main(['history', 'check', ...words], {}, '/', {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void lines.push(...text.split('\n')),
    json: (value) => void documents.push(value),
  })
  return { code, lines, document: documents[0] as { verdicts: { checker: string; count: number }[] } }
}

it('rung history check tells what is wrong by the operations that show it, in 80 columns', () =>
  withScratch(async ({ dir }) => {
    const file = path.join(dir, 'history.jsonl')
    let at = 0
    const recorder = createRecorder({ file, now: () => (at += 10) })
    const act = (...[invocation, completion]: [Parameters<typeof recorder.begin>[0], object]) =>
      recorder.begin(invocation).ok(completion)
    const cart = { key: 'cart 7' }
    act({ kind: 'write', session: 'anna', ...cart, value: 'tea' }, { node: 'web-1' })
    for (let n = 0; n < 50; n += 1) act({ kind: 'read', session: 'ben', ...cart }, { value: 'tea', node: 'web-1' })
    act({ kind: 'write', session: 'anna', ...cart, value: 'milk' }, { node: 'web-2' })
    for (let n = 0; n < 5; n += 1) act({ kind: 'read', session: 'anna', ...cart }, { value: 'tea', node: 'web-1' })
    await recorder.close()

    const { code, lines } = await check(file, '--show', '1')
    assert.equal(code, 1)
    assert.deepEqual(lines, [
      '57 operations',
      'checker                    checked   anomalies',
      'read-your-writes                55           5',
      'monotonic-reads                 55           0',
      'writes-follow-reads             55           0',
      'Nothing to check for acknowledged-writes, bounded-staleness, no-stale-set,',
      'no-lost-update, one-effect, conservation, queue, rate-limit, fenced-completion,',
      'single-writer.',
      '',
      'read-your-writes, 1 of 5: Session anna read tea of cart 7 on web-1 at 1.040 s,',
      'although it had written milk on web-2 at 1.020 s and knew so at 1.030 s.',
      '  0.000 s to 0.010 s: anna writes tea to cart 7 on web-1',
      '  1.020 s to 1.030 s: anna writes milk to cart 7 on web-2',
      '  1.040 s to 1.050 s: anna reads tea of cart 7 on web-1',
    ])

    const { document } = await check(file, '--json')
    const wrong = document.verdicts.filter(({ count }) => count > 0) as unknown as {
      anomalies: { text: string; steps: string[]; operations: object[] }[]
    }[]
    assert.deepEqual(
      wrong.map(({ anomalies }) => anomalies.map(({ steps, operations }) => [steps.length, operations.length])),
      [
        [
          [3, 3],
          [3, 3],
          [3, 3],
        ],
      ],
    )
  }))

it('a history without an anomaly is fine, and one that has nothing to check is not', () =>
  withScratch(async ({ dir }) => {
    for (const [name, expected] of [
      ['kept', 0],
      ['nothing', 1],
    ] as const) {
      const file = path.join(dir, `${name}.jsonl`)
      const recorder = createRecorder({ file })
      const read = recorder.begin({ kind: 'read', session: 'a', key: 'k' })
      if (name === 'kept') read.ok({ value: null })
      await recorder.close()
      assert.equal((await check(file)).code, expected, name)
    }
    for (const words of [[], [dir], [path.join(dir, 'missing.jsonl')]]) {
      const { code, lines } = await check(...words)
      assert.equal(code, 1)
      assert.match(lines.join('\n'), /COMMAND_INVALID/)
    }
  }))

it('what accounts held before, what they may hold, and that nothing leaves them are options', () =>
  withScratch(async ({ dir }) => {
    const file = path.join(dir, 'history.jsonl')
    const recorder = createRecorder({ file })
    recorder.begin({ kind: 'change', session: 'anna', key: 'till', amounts: { anna: -80, bob: 80 } }).ok({})
    recorder
      .begin({ kind: 'levels', session: 'anna', key: 'till', fresh: true })
      .ok({ amounts: { anna: 20, bob: 130 } })
    await recorder.close()
    const countOf = async (...options: string[]) => {
      const { document } = await check(file, '--json', ...options)
      return document.verdicts.find(({ checker }) => checker === 'conservation')!.count
    }
    const initial = ['--initial', 'anna=100, bob=50']
    assert.equal(await countOf(...initial, '--closed', '--least', '0'), 0)
    assert.equal(await countOf(...initial, '--least', '21'), 1)
    assert.ok((await countOf('--initial', 'anna=100,bob=40', '--closed')) > 0)
    for (const wrong of [
      ['--initial', 'anna'],
      ['--initial', 'anna=ten'],
      ['--least', ''],
    ])
      assert.match((await check(file, ...wrong)).lines.join(' '), /needs a number/)
  }))

it('a line that is cut off, and amounts without a fresh snapshot, are told', () =>
  withScratch(async ({ dir }) => {
    const file = path.join(dir, 'history.jsonl')
    const recorder = createRecorder({ file })
    const by = { session: 'a', key: 'stock' }
    recorder.begin({ kind: 'change', ...by, amounts: { cup: 1 } }).ok()
    recorder.begin({ kind: 'levels', ...by }).ok({ amounts: { cup: 1 } })
    await recorder.close()
    const noneFresh = 'Nothing to check for conservation: no snapshot is fresh.'
    const cut = 'The last line is incomplete, as after a kill, and was left out.'
    assert.deepEqual((await check(file)).lines.slice(-1), [noneFresh])
    await appendFile(file, '{"type":"inv')
    assert.deepEqual((await check(file)).lines.slice(-2), [cut, noneFresh])
  }))
