import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { buildOf, forgetReleases, keepRelease } from '../../src/fleet/releases.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { withScratch } from '../support/process.ts'

const run = promisify(execFile)

async function appIn(dir: string): Promise<string> {
  await mkdir(path.join(dir, 'src', 'parts'), { recursive: true })
  await mkdir(path.join(dir, 'node_modules', 'inner'), { recursive: true })
  await mkdir(path.join(dir, '..', 'node_modules', 'outer'), { recursive: true })
  await writeFile(path.join(dir, 'package.json'), '{"type":"module"}')
  for (const [place, name] of [
    [dir, 'inner'],
    [path.join(dir, '..'), 'outer'],
  ] as const) {
    const folder = path.join(place, 'node_modules', name)
    await writeFile(path.join(folder, 'package.json'), '{"type":"module","exports":"./index.js"}')
    await writeFile(path.join(folder, 'index.js'), `export default '${name}'\n`)
  }
  await writeFile(path.join(dir, 'src', 'parts', 'part.ts'), 'export const part: string = "part"\n')
  const app = path.join(dir, 'src', 'app.ts')
  await writeFile(
    app,
    `import inner from 'inner'
import outer from 'outer'
import { part } from './parts/part.ts'
import { defineApp } from 'rung'
console.log(inner, outer, part, typeof defineApp)
`,
  )
  return app
}

describe('a release', () => {
  it('is a copy of the code, which finds its modules as the code does; its id is that of the content', () =>
    withScratch(async ({ dir }) => {
      const project = path.join(dir, 'work', 'shop')
      const app = await appIn(project)
      const dataDir = path.join(project, '.rung')
      const first = await keepRelease(app, dataDir)
      assert.match(first.build, /^[0-9a-f]{12}$/)
      assert.equal(await buildOf(app, dataDir), first.build)
      const { stdout } = await run(process.execPath, ['--conditions=rung-source', first.app])
      assert.equal(stdout, 'inner outer part function\n')

      await writeFile(path.join(project, 'src', 'server.log'), 'a log that the app writes\n')
      await symlink(path.join(project, 'src'), path.join(project, 'again'))
      // What commands of Rung write beside the code.
      await writeFile(path.join(project, 'web-1.cpuprofile'), '{}')
      await writeFile(path.join(project, 'history.jsonl'), '')
      for (const file of [
        ...['docs/adr/1-stay.md', 'docs/incidents/1.md', 'docs/reports/load.html', '.github/workflows/ship.yaml'],
        ...['deploy/compose.yaml', 'deploy/monitoring/alerts.yml'],
      ]) {
        await mkdir(path.dirname(path.join(project, file)), { recursive: true })
        await writeFile(path.join(project, file), 'written')
      }
      await writeFile(path.join(project, 'load.ts'), "import { defineScenario } from 'rung/load'\n")
      await writeFile(path.join(project, 'prove.ts'), "import { defineProof } from 'rung/prove'\n")
      assert.equal((await keepRelease(app, dataDir)).build, first.build)

      // Code of an app that has such a name is code.
      for (const file of ['load.ts', 'deploy/module.ts', 'reports/module.ts', 'src/load.ts']) {
        const kept = await readFile(path.join(project, file), 'utf8').catch(() => undefined)
        await mkdir(path.dirname(path.join(project, file)), { recursive: true })
        await writeFile(path.join(project, file), 'export const one = 1\n')
        const { build, folder } = await keepRelease(app, dataDir)
        assert.notEqual(build, first.build, file)
        assert.equal(await readFile(path.join(folder, file), 'utf8'), 'export const one = 1\n')
        if (kept === undefined) await rm(path.join(project, file))
        else await writeFile(path.join(project, file), kept)
      }

      await writeFile(path.join(project, 'src', 'parts', 'part.ts'), 'export const part: string = "other"\n')
      const second = await keepRelease(app, dataDir)
      assert.notEqual(second.build, first.build)
      assert.equal((await run(process.execPath, ['--conditions=rung-source', first.app])).stdout, stdout)
      assert.match((await run(process.execPath, ['--conditions=rung-source', second.app])).stdout, /other/)
    }))

  it('finds the modules of the folder that it was taken from last, though the code is the same', () =>
    withScratch(async ({ dir }) => {
      const dataDir = path.join(dir, 'data')
      const builds = new Set<string>()
      for (const version of ['one', 'two']) {
        const app = await appIn(path.join(dir, version, 'shop'))
        await writeFile(path.join(dir, version, 'shop/node_modules/inner/index.js'), `export default '${version}'\n`)
        const release = await keepRelease(app, dataDir)
        builds.add(release.build)
        const { stdout } = await run(process.execPath, ['--conditions=rung-source', release.app])
        assert.equal(stdout, `${version} outer part function\n`)
      }
      assert.equal(builds.size, 1)
    }))

  it('may have a name of its own, which is of one code only; the last ones are kept', () =>
    withScratch(async ({ dir }) => {
      const project = path.join(dir, 'work', 'shop')
      const app = await appIn(project)
      const dataDir = path.join(dir, 'data')
      assert.equal((await keepRelease(app, dataDir, 'v1')).build, 'v1')
      await writeFile(app, '// other\n')
      await assert.rejects(keepRelease(app, dataDir, 'v1'), (error) => isRungError(error, 'CONFIG_INVALID'))
      for (let n = 2; n <= 9; n += 1) {
        await writeFile(app, `// ${n}\n`)
        const release = await keepRelease(app, dataDir, `v${n}`)
        if (n === 9) await forgetReleases(dataDir, [release])
      }
      const kept = await readdir(path.join(dataDir, 'releases'))
      assert.equal(kept.length, 5)
      assert.ok(kept.includes('v9'))
    }))

  it('of an app without a package.json, or inside Rung’s own repository, is the folder of its file', () =>
    withScratch(async ({ dir }) => {
      const app = path.resolve(import.meta.dirname, '../../examples/shop/app.ts')
      const { folder, source } = await keepRelease(app, path.join(dir, 'data'))
      assert.equal(source, path.dirname(app))
      const code = `import(${JSON.stringify(path.join(folder, 'app.ts'))}).then(({ default: app }) => console.log(app.name))`
      const { stdout } = await run(process.execPath, ['--conditions=rung-source', '-e', code])
      assert.equal(stdout, 'shop\n')
    }))
})
