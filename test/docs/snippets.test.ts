import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type App, defineApp } from '../../src/app/define-app.ts'
import type { Module } from '../../src/app/define-module.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { preludes, tables } from './preludes.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const guides = [
  'README.md',
  ...readdirSync(path.join(root, 'docs/guides'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/guides/${name}`),
]

interface Snippet {
  guide: string
  /** Of its first line of code. */
  line: number
  prelude: string | undefined
  code: string
  /** The file that is checked, and how many of its lines come before the snippet's first. */
  file: string
  linesBefore: number
}

function snippetsOf(guide: string): Omit<Snippet, 'file' | 'linesBefore'>[] {
  const lines = readFileSync(path.join(root, guide), 'utf8').split('\n')
  return lines.flatMap((text, at) => {
    if (!/^\s*```(ts|typescript|js|javascript)\b/.test(text)) return []
    const end = lines.findIndex((line, after) => after > at && /^\s*```\s*$/.test(line))
    const [, prelude] = /^<!-- prelude: ([\w-]+) -->$/.exec(lines[at - 1] ?? '') ?? []
    return [{ guide, line: at + 2, prelude, code: lines.slice(at + 1, end).join('\n') }]
  })
}

/** Imports come first in a file; in the snippet they leave an empty line, so that its lines keep their numbers. */
function inPrelude(code: string, prelude: string): { text: string; linesBefore: number } {
  const imports = code.split('\n').filter((line) => line.startsWith('import '))
  const body = code.replace(/^import .*$/gm, '')
  const [start, end] = prelude.split('SNIPPET\n')
  const above = `${imports.join('\n')}\n${withoutNames(start!, imports)}`
  return { text: `${above}${body}\n${end}`, linesBefore: above.split('\n').length - 1 }
}

/** What the snippet imports itself the prelude need not. */
function withoutNames(prelude: string, imports: readonly string[]): string {
  const own = new Set(imports.flatMap((line) => (/\{(.*)\}/.exec(line)?.[1] ?? '').split(',').map(bare)))
  return prelude.replace(/^import (type )?\{(.*)\} from (.*)$/gm, (_line, type = '', names: string, from) => {
    const left = names.split(',').filter((name) => !own.has(bare(name)))
    return `import ${type}{${left.join(',')}} from ${from}`
  })
}

const bare = (name: string) => name.replace(/^\s*type /, '').trim()

describe('the snippets of the guides', () => {
  let dir: string
  let postgres: TestPostgres
  let snippets: Snippet[]

  before(async () => {
    postgres = await testPostgres()
    // Inside the package, where its own name leads to it; the dot keeps it out of other checks.
    dir = mkdtempSync(path.join(root, '.snippets-'))
    mkdirSync(path.join(dir, 'all'))
    snippets = guides.flatMap(snippetsOf).map((snippet, at) => {
      const file = path.join(dir, 'all', `snippet-${at}.ts`)
      const whole = { text: snippet.code, linesBefore: 0 }
      const { text, linesBefore } =
        snippet.prelude === undefined ? whole : inPrelude(snippet.code, preludes[snippet.prelude] ?? 'no such prelude')
      writeFileSync(file, `${text}\nexport {}\n`)
      return { ...snippet, file, linesBefore }
    })
    writeFileSync(
      path.join(dir, 'all', 'app.ts'),
      "import { defineApp } from 'rung'\nexport default defineApp({ name: 'app', modules: [] })\n",
    )
    const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false, isolatedModules: false }
    writeFileSync(
      path.join(dir, 'tsconfig.json'),
      JSON.stringify({ extends: '../tsconfig.json', compilerOptions, include: ['all'] }),
    )
  })
  after(async () => {
    rmSync(dir, { recursive: true, force: true })
    await postgres?.stop()
  })

  it('are there, and name preludes that are there', () => {
    assert.ok(snippets.length > 20)
    for (const { prelude, guide, line } of snippets)
      assert.ok(prelude === undefined || prelude in preludes, `${guide}:${line} names the prelude "${prelude}"`)
    const used = new Set(snippets.map(({ prelude }) => prelude))
    assert.deepEqual(
      Object.keys(preludes).filter((name) => !used.has(name)),
      [],
    )
  })

  it('compile', () => {
    const tsc = path.join(root, 'node_modules/.bin/tsc')
    const { stdout } = spawnSync(tsc, ['-p', dir, '--pretty', 'false'], { cwd: dir, encoding: 'utf8' })
    const complaints = stdout.split('\n').flatMap((text) => {
      const [, name, line, message] = /snippet-(\d+)\.ts\((\d+),\d+\): (.*)$/.exec(text) ?? []
      if (message === undefined) return /error TS/.test(text) ? [text] : []
      const { guide, line: first, linesBefore } = snippets[Number(name)]!
      return [`${guide}:${Number(line) - linesBefore + first - 1}  ${message}`]
    })
    assert.deepEqual(complaints, [])
  })

  it('run, where they are whole files', async () => {
    const whole = snippets.filter(({ prelude }) => prelude === undefined)
    assert.ok(whole.length >= 5)
    for (const { file, guide, line } of whole) {
      const folder = path.join(dir, path.basename(file, '.ts'))
      mkdirSync(folder)
      writeFileSync(path.join(folder, 'app.ts'), readFileSync(file))
      const exported: Record<string, unknown> = await import(pathToFileURL(path.join(folder, 'app.ts')).href)
      const app = (exported.default as App | undefined)?.modules
        ? (exported.default as App)
        : defineApp({ name: 'snippet', modules: Object.values(exported).filter(isModule) })
      if (app.modules.length === 0) continue
      // Of modules in one folder each has migrations of its own here.
      const modules = app.modules.map((module) => {
        const sql = tables[guide]?.[module.name]
        assert.ok(sql || !module.migrations, `${guide}:${line} has no tables for "${module.name}"`)
        if (!sql) return module
        mkdirSync(path.join(folder, module.name))
        writeFileSync(path.join(folder, module.name, '0001_tables.sql'), sql)
        return Object.assign(module, { migrations: pathToFileURL(`${path.join(folder, module.name)}/`) })
      })
      const running = await bootForTest({ ...app, modules }, postgres)
      try {
        const answer = await fetch(`${running.url}/openapi.json`)
        assert.equal(answer.status, 200, `${guide}:${line}`)
        await answerOf(running.url, guide)
      } finally {
        await running.stop()
      }
    }
  })
})

function isModule(value: unknown): value is Module {
  return typeof value === 'object' && value !== null && 'name' in value && 'owner' in value
}

/** What the guides say that comes of them. */
async function answerOf(url: string, guide: string): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  if (guide === 'docs/guides/caching.md') {
    const put = await fetch(`${url}/articles/one`, { method: 'PUT', headers, body: JSON.stringify({ title: 'One' }) })
    assert.equal(put.status, 200)
    assert.deepEqual(await (await fetch(`${url}/articles/one`)).json(), { id: 1, slug: 'one', title: 'One', tags: [] })
    assert.deepEqual(await (await fetch(`${url}/titles`)).json(), [{ slug: 'one', title: 'One' }])
  }
  if (guide === 'docs/guides/jobs-and-events.md') {
    const placed = await fetch(`${url}/orders`, { method: 'POST' })
    assert.deepEqual([placed.status, await placed.json()], [201, { id: 1 }])
  }
}
