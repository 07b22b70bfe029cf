import assert from 'node:assert/strict'
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { noteKept } from '../../src/cli/kept-notes.ts'
import { scaffold } from '../../src/cli/scaffold.ts'
import { lookAtSources } from '../../src/stateless/look.ts'

const root = path.resolve(import.meta.dirname, '../..')
const planted = path.join(import.meta.dirname, 'planted')
const dir = mkdtempSync(path.join(tmpdir(), 'rung-sources-'))
after(() => rmSync(dir, { recursive: true, force: true }))

/** `variables.ts:1 state`, in the order of the files. */
async function placesIn(entry: string): Promise<string[]> {
  const found = await lookAtSources(entry)
  return found.map(({ file, line, kind }) => `${path.relative(path.dirname(entry), file)}:${line} ${kind}`).sort()
}

function write(name: string, text: string): string {
  const file = path.join(dir, name)
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, text)
  return file
}

test('each planted line is found, and no other one', async () => {
  const expected = globSync('**/*.{ts,js}', { cwd: planted }).flatMap((file) =>
    readFileSync(path.join(planted, file), 'utf8')
      .split('\n')
      .flatMap((line, index) => {
        const [, below, kind] = /\/\/ found( below)?: ([\w-]+)$/.exec(line) ?? []
        return kind === undefined ? [] : [`${file}:${index + (below ? 2 : 1)} ${kind}`]
      }),
  )
  assert.ok(expected.length > 30)
  assert.deepEqual(await placesIn(path.join(planted, 'app.ts')), expected.sort())
})

test('a finding says what, where it is changed, and what to do', async () => {
  const found = await lookAtSources(path.join(planted, 'app.ts'))
  const hits = found.find(({ what }) => what.includes('"hits"'))!
  const line =
    readFileSync(hits.file, 'utf8')
      .split('\n')
      .findIndex((text) => text.includes('hits.set')) + 1
  assert.deepEqual(hits, {
    kind: 'state',
    severity: 'act',
    file: path.join(planted, 'app.ts'),
    line: hits.line,
    changedAt: [`${hits.file}:${line}`],
    what: '"hits" is a Map in the memory of one process, and requests change it.',
    remedy: 'Keep it in a table, a session or cache.get, which all processes share.',
  })
})

test('the reference apps and a new app keep nothing in one process', async () => {
  for (const app of ['conduit', 'shop'])
    assert.deepEqual(await placesIn(path.join(root, 'examples', app, 'app.ts')), [])
  const versions = { rung: undefined, typebox: '', typescript: '', types: '' }
  for (const [file, text] of Object.entries(scaffold('fresh', versions, ''))) write(`fresh/${file}`, text)
  assert.deepEqual(await placesIn(path.join(dir, 'fresh/app.ts')), [])
})

test('of the apps of the tests, those that keep something on purpose are found', async () => {
  const apps = globSync('test/{support/apps,testing}/*/app.ts', { cwd: root }).sort()
  assert.ok(apps.length > 7)
  const found = await Promise.all(
    apps.map(async (app) =>
      (await lookAtSources(path.join(root, app))).map(({ what }) => `${app} ${what.split(' ')[0]}`),
    ),
  )
  assert.deepEqual(found.flat(), [
    'test/support/apps/till/app.ts "failures"', // how often it has failed as it was told
    'test/support/apps/two-databases/app.ts "failed"',
    'test/support/apps/two-databases/app.ts "gates"', // what a test lets pass
    'test/testing/nodes/app.ts "views"', // what the tests on two nodes find
    'test/testing/shop/app.ts "loads"', // counts loads of the cache
  ])
})

test('a file that Node could not run is a note, and the others are looked at', async () => {
  const entry = write(
    'odd/app.ts',
    "import './enum.ts'\nimport './broken.js'\nimport './decorated.ts'\nimport './none.ts'\nlet n = 0\nsetImmediate(() => { n += 1 })\n",
  )
  write('odd/enum.ts', 'export enum Colour { red }\n')
  write('odd/broken.js', 'const = 1\n')
  write('odd/decorated.ts', 'class A { @dec method() {} }\n')
  assert.deepEqual(await placesIn(entry), [
    'app.ts:5 state',
    'broken.js:1 unread',
    'decorated.ts:1 unread',
    'enum.ts:1 unread',
  ])
  const [first] = (await lookAtSources(entry)).filter(({ kind }) => kind === 'unread')
  assert.equal(first!.severity, 'note')
  assert.match(first!.what, /^This file was not looked at: /)
})

test('imports are followed by any name of a file, and in a circle', async () => {
  write('names/package.json', '{ "type": "module", "imports": { "#state": "./inner/state.js" } }')
  const entry = write(
    'names/app.js',
    "import { add } from '#state'\nexport const all = () => add(1)\nsetImmediate(() => all())\n",
  )
  write(
    'names/inner/state.js',
    "import { all } from '../app.js'\nconst list = []\nexport const add = (n) => list.push(n, all)\n",
  )
  assert.deepEqual(await placesIn(entry), ['inner/state.js:2 state'])
})

test('several processes are warned of before they run, one is not', async () => {
  const notes: string[] = []
  const out = { line() {}, json() {}, note: (text: string) => void notes.push(text) }
  await noteKept(path.join(planted, 'app.ts'), { both: 1, web: 0, worker: 0 }, { cwd: planted, out })
  assert.deepEqual(notes, [])
  await noteKept(path.join(planted, 'app.ts'), { both: 0, web: 1, worker: 1 }, { cwd: planted, out })
  assert.equal(notes.length, 7)
  assert.match(notes[1]!, /^ {2}accepted\.ts:4 {2}The exception/)
  assert.match(notes[6]!, /^ {2}\d+ more, and what to do about it: rung doctor\./)
  notes.length = 0
  await noteKept(path.join(planted, 'nowhere.ts'), { web: 2 }, { cwd: planted, out })
  assert.match(notes.join('\n'), /^The sources were not looked at/)
})
