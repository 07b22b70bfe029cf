import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { dependencyFor } from '../../src/cli/own-package.ts'

function inScratch(body: (dir: string) => Promise<void>) {
  return async () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'rung-test-'))
    await body(dir).finally(() => rmSync(dir, { recursive: true }))
  }
}

/** What an app in `app`, beside `tools`, names as its Rung. */
const named = (dir: string, folder: string, name = 'rung') =>
  dependencyFor(path.join(dir, 'app'), { name, folder, version: '0.1.0', dependencies: {}, devDependencies: {} })

/** As npm leaves it: `tools/node_modules/rung`, installed from `resolved`. */
function installed(dir: string, resolved: string | undefined): string {
  const modules = path.join(dir, 'tools', 'node_modules')
  mkdirSync(path.join(modules, 'rung'), { recursive: true })
  const lock = { packages: { 'node_modules/rung': { version: '0.1.0', resolved } } }
  writeFileSync(path.join(modules, '.package-lock.json'), JSON.stringify(lock))
  return path.join(modules, 'rung')
}

test(
  'the packed file is what npm installed Rung from, while it is there',
  inScratch(async (dir) => {
    const folder = installed(dir, 'file:../a%20folder/rung-0.1.0.tgz')
    assert.equal(await named(dir, folder), undefined)
    mkdirSync(path.join(dir, 'a folder'))
    writeFileSync(path.join(dir, 'a folder', 'rung-0.1.0.tgz'), '')
    assert.equal(await named(dir, folder), 'file:../a folder/rung-0.1.0.tgz')
  }),
)

test(
  'a package from a registry, a folder or another program is no packed file',
  inScratch(async (dir) => {
    for (const resolved of ['https://registry.example.org/rung/-/rung-0.1.0.tgz', 'file:..', undefined])
      assert.equal(await named(dir, installed(dir, resolved)), undefined)
    rmSync(path.join(dir, 'tools', 'node_modules', '.package-lock.json'))
    assert.equal(await named(dir, path.join(dir, 'tools', 'node_modules', 'rung')), undefined)
  }),
)

test(
  'from a checkout it is the file that npm pack made there',
  inScratch(async (dir) => {
    assert.equal(await named(dir, dir), undefined)
    writeFileSync(path.join(dir, 'rung-0.1.0.tgz'), '')
    assert.equal(await named(dir, dir), 'file:../rung-0.1.0.tgz')
  }),
)

test(
  'what was published under a scoped name is named by its version',
  inScratch(async (dir) => {
    assert.equal(await named(dir, dir, '@rungjs/rung'), 'npm:@rungjs/rung@0.1.0')
  }),
)

test(
  'a new app never names Rung by its version, which on npm belongs to somebody else',
  inScratch(async (dir) => {
    const lines: string[] = []
    const out = { line: (text = '') => void lines.push(text), json() {}, note() {} }
    assert.equal(await main(['new', 'my-app'], {}, dir, out), 0)
    const { dependencies, devDependencies, scripts } = JSON.parse(
      readFileSync(path.join(dir, 'my-app', 'package.json'), 'utf8'),
    )
    assert.match(dependencies.rung ?? 'file:', /^file:/)
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies }))
      if (name !== 'rung') assert.match(version as string, /^\d+\.\d+\.\d+$/, name)
    assert.ok(devDependencies.typescript && devDependencies['@types/node'])
    assert.deepEqual(Object.keys(scripts), ['dev', 'start', 'check', 'test'])
    const text = lines.join('\n')
    if (dependencies.rung === undefined)
      assert.match(text, /npm install \/path\/to\/rung-.*\.tgz[\s\S]*another project/)
    else assert.match(text, /\n {2}npm install\n/)
    assert.doesNotMatch(text, /npm install rung|npx rung/)
  }),
)
