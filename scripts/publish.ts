/**
 * Publishes the package on npm under a scoped name, since "rung" belongs to another project there. Apps install it as `rung@npm:@rungjs/rung`,
 * so that they import it as the examples here do.
 *
 *   node scripts/publish.ts --dry-run     # says what would be published
 *   node scripts/publish.ts --by-hand     # the first version: npm trusts a workflow only for a package that exists
 *   node scripts/publish.ts               # in .github/workflows/release.yaml, at a tag
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

const scopedName = '@rungjs/rung'
const root = path.resolve(import.meta.dirname, '..')
const { values } = parseArgs({
  options: { 'dry-run': { type: 'boolean' }, 'by-hand': { type: 'boolean' }, packed: { type: 'string' } },
})
const { GITHUB_REPOSITORY: repository, GITHUB_REF_NAME: tag } = process.env

const dir = mkdtempSync(path.join(tmpdir(), 'rung-publish-'))
try {
  if (values.packed === undefined) run('npm', ['pack', '--silent', '--pack-destination', dir], root)
  const packed = values.packed ?? path.join(dir, `rung-${manifestIn(root).version}.tgz`)
  run('tar', ['-xzf', path.resolve(packed), '-C', dir], root)
  const folder = path.join(dir, 'package')
  const { scripts: _, ...manifest } = manifestIn(folder) // they are for the repository: "prepack" would build again
  if (tag !== undefined && tag !== `v${manifest.version}`)
    fail(`The tag is ${tag}, and package.json has the version ${manifest.version}. Change one of them.`)
  const published = {
    ...manifest,
    name: scopedName,
    // npm compares it with where the build ran, and shows it beside the package.
    ...(repository && { repository: { type: 'git', url: `git+https://github.com/${repository}.git` } }),
  }
  writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(published, undefined, 2)}\n`)
  // Only a workflow has a provenance.
  const how = values['dry-run'] ? ['--dry-run'] : values['by-hand'] ? [] : ['--provenance']
  const options = ['--access', 'public', ...how]
  run('npm', ['publish', ...options], folder)
} finally {
  rmSync(dir, { recursive: true, force: true })
}

function manifestIn(folder: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
}

function run(program: string, args: readonly string[], cwd: string): void {
  const { status } = spawnSync(program, args, { cwd, stdio: 'inherit' })
  if (status !== 0) fail(`${program} ${args[0]} has failed.`)
}

function fail(message: string): never {
  rmSync(dir, { recursive: true, force: true })
  console.error(message)
  process.exit(1)
}
