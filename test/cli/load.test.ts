import assert from 'node:assert/strict'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Breaking } from '../../src/cli/load-break.ts'
import type { Summary } from '../../src/load/summary.ts'
import { write } from '../support/ledger.ts'
import { launchRung, sameExit, withScratch } from '../support/process.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

it('writes a first scenario from what runs, and runs it', () =>
  withScratch(async ({ dir, dataDir, start }) => {
    await mkdir(path.join(dir, 'node_modules'))
    await symlink(root, path.join(dir, 'node_modules/rung'))
    async function load(...words: string[]) {
      const { exited, stdout, stderr } = launchRung({ command: ['load', ...words], dataDir, cwd: dir })
      const { code } = await exited
      return { code, stdout: stdout(), stderr: stderr() }
    }
    const nothingRuns = await load('init')
    assert.deepEqual([nothingRuns.code, /FLEET_NOT_RUNNING/.test(nothingRuns.stderr)], [1, true])
    assert.match((await load('last')).stdout, /^No load test was run here yet/)

    const app = await start()
    for (const id of ['one', "it's `two`/?"]) await write(app, id)
    const made = await load('init', '--json')
    assert.deepEqual(JSON.parse(made.stdout), { file: 'load.ts', url: app.url, answered: 2, asked: 2 })
    assert.match((await load('init')).stderr, /COMMAND_INVALID[\s\S]*--force/)
    const text = await readFile(path.join(dir, 'load.ts'), 'utf8')
    assert.match(text, /entriesId: answer0Body\.map\(\(\{ id \}\) => id\)/)
    assert.match(text, /visitor\.check\(answer0\.status === 200, 'GET \/entries answered ' \+ answer0\.status\)/)
    assert.match(text, /^ {4}\{ name: 'GET \/entries\/:id', /m)
    assert.match(text, /^ {4}\/\/ \{ name: 'POST \/entries', .*"id":"text"/m, 'a write is a comment')

    // A busy machine is late, which is not the point here. Values are parts of paths as they are.
    const patient = text.replace('({\n', '({\n  lateMsMax: 60_000,\n').replace('=> id)', '=> encodeURIComponent(id))')
    await writeFile(path.join(dir, 'load.ts'), patient)
    const rate = ['--rate', '40', '--for', '2500ms']
    const run = await load(...rate, '--report', 'report.html', '--failing', '0%', '--json')
    assert.equal(run.code, 0, run.stdout + run.stderr)
    const view = JSON.parse(run.stdout) as Summary & { url: string; objective: object }
    assert.deepEqual(Object.keys(view.routes), ['GET /entries', 'GET /entries/:id'])
    assert.deepEqual(Object.keys(view.byJourney), Object.keys(view.routes))
    assert.deepEqual([view.all.failures, view.objective], [{}, { failing: 0, held: true }])
    assert.equal(view.all.count, view.journeys)
    assert.ok(view.timeline.length >= 2 && view.timeline.every(({ rate }) => rate >= 0))
    const again = JSON.parse((await load('last', '--json')).stdout) as Summary & { at: number }
    assert.deepEqual([again.byJourney, again.all], [view.byJourney, view.all])
    assert.match((await load('last')).stdout, /UTC {2}load\.ts at http:[\s\S]*^GET \/entries +\d+ /m)
    const page = await readFile(path.join(dir, 'report.html'), 'utf8')
    assert.match(page, /<td>GET \/entries\/:id<\/td>/)
    assert.doesNotMatch(page, /src=|href=|@import/, 'it stands for itself')

    const slow = await load(...rate, '--p95', '1ms')
    assert.equal(slow.code, 1, slow.stdout)
    assert.match(slow.stdout, /^GET \/entries +\d+ /m)
    assert.match(slow.stdout, /The objective was not held: p95 is \S+ ms, and at most 1 ms are allowed/)
    for (const line of slow.stdout.split('\n')) assert.ok(line.length <= 80 || /^The/.test(line), line)
    assert.match(slow.stderr, /2 of 3 s {2}\S+\/s {2}p95/)

    // Of a load of 300 ms the first 20 journeys are served: the limit is known, however busy the machine is.
    const journey = `{ name: 'a', run: async (visitor) => { await visitor.request('GET', '/entries'); visitor.check(visitor.number < 20, 'full') } }`
    await writeFile(
      path.join(dir, 'limit.ts'),
      `export default { lateMsMax: 60_000, arrivals: 'even', journeys: [${journey}] }`,
    )
    const limit = ['limit.ts', '--to-break', '--failing', '1%', '--step', '300ms', '--rounds', '3']
    const broken = await load(...limit, '--report', 'limit.html', '--json')
    assert.equal(broken.code, 0, broken.stdout + broken.stderr)
    const found = JSON.parse(broken.stdout) as Breaking
    assert.ok(found.rate >= 50 && found.rate <= 70 && found.least === found.most, `${found.rate}`)
    assert.deepEqual([found.isOpen, Object.keys(found.demands!.journeys)], [false, ['a']])
    assert.ok(found.demands!.journeys.a!.app! >= 0 && 'postgres' in found.demands!.journeys.a!)
    const { counts, limit: kept, mix } = found.demands!
    assert.deepEqual(
      [counts, kept.requests, Object.keys(mix.demand)],
      [{ app: 1, postgres: 1 }, 1, ['app', 'postgres']],
    )
    assert.deepEqual(JSON.parse(await readFile(path.join(dataDir, 'load/demands.json'), 'utf8')), found.demands)
    assert.match(
      await readFile(path.join(dir, 'limit.html'), 'utf8'),
      /The objective \(at most 1 % failed\) holds up to \S+ journeys/,
    )

    await writeFile(path.join(dir, 'late.ts'), `export default { lateMsMax: -1, journeys: [${journey}] }`)
    const late = await load('late.ts', '--to-break', '--failing', '1%', '--step', '1s')
    assert.deepEqual([late.code, /^Nothing could be measured, also not at 10 journeys/m.test(late.stdout)], [1, true])

    await writeFile(path.join(dir, 'wrong.ts'), 'export default {}')
    const failing = `export default { setup: () => { throw new Error('no list') }, journeys: [${journey}] }`
    await writeFile(path.join(dir, 'failing.ts'), failing)
    for (const [words, message] of [
      [['failing.ts', '--to-break', '--p95', '5ms'], /no list/],
      [['wrong.ts'], /no scenario as its default export/],
      [['none.ts'], /There is no none\.ts/],
      [['--for', '3s'], /--for needs --rate/],
      [['--rate', 'fast'], /--rate must be/],
      [['--rate', '1', '--p95', '5'], /--p95 must be a time/],
      [['--to-break'], /needs an objective/],
      [['--rate', '1', '--url', 'http://example.com'], /another machine/],
    ] as const) {
      const { code, stderr } = await load(...words)
      assert.deepEqual([code, message.test(stderr)], [1, true], stderr)
    }
    sameExit(await app.stop(), 0)
  }))
