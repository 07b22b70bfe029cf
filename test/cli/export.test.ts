import assert from 'node:assert/strict'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { main } from '../../src/cli/main.ts'
import { withTempDir } from '../support/postgres.ts'

const repository = fileURLToPath(new URL('../../', import.meta.url))

interface View {
  written: string[]
  kept: string[]
  leftOut: string[]
  error: { code: string; message: string }
}

/** The folder of an app, as npm leaves it. */
async function withApp(rung: string | undefined, body: (dir: string, run: Run) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    await mkdir(path.join(dir, 'node_modules'))
    await symlink(repository, path.join(dir, 'node_modules/rung'))
    await writeFile(path.join(dir, 'package.json'), JSON.stringify({ type: 'module', dependencies: { rung } }))
    await writeFile(path.join(dir, 'package-lock.json'), '{}')
    const app = "import { defineApp } from 'rung'\nexport default defineApp({ name: 'notes', modules: [] })\n"
    await writeFile(path.join(dir, 'app.ts'), app)
    const bucket = { RUNG_BACKUP_S3_URL: 's3://key:secret@s3.example/backups', RUNG_BACKUP_KEY: 'k'.repeat(43) }
    const places = { RUNG_BACKUP_DIR: '/backups', RUNG_DATA: 'var [1]', RUNG_SECRET_FILE: path.join(dir, 'keys/root') }
    await mkdir(path.join(dir, 'keys'))
    await writeFile(places.RUNG_SECRET_FILE, 's'.repeat(48))
    const env = { ...places, ...bucket, PORT: '4000', RUNG_LAG_MS: '2000' }
    await body(dir, async (...args) => {
      const views: unknown[] = []
      const out = { line() {}, note() {}, json: (value: unknown) => void views.push(value) }
      const code = await main(['export', ...args, '--json'], env, dir, out)
      return { code, ...(views[0] as View) }
    })
  })
}
type Run = (...args: string[]) => Promise<View & { code: number }>

describe('rung export', () => {
  it('writes an image beside package.json, and the rest into the folder', () =>
    withApp('file:vendor/rung-0.1.0.tgz', async (dir, run) => {
      const { code, written, kept, leftOut } = await run('compose', '1k', '--out', 'deploy')
      assert.deepEqual(leftOut.toSorted(), ['PORT', 'RUNG_BACKUP_DIR', 'RUNG_BACKUP_KEY', 'RUNG_BACKUP_S3_URL'])
      assert.equal(code, 0)
      assert.deepEqual(kept, [])
      const names = ['compose.yaml', '.env.example', '.gitignore', 'postgres/postgresql.conf', 'postgres/app.sh']
      const monitoring = ['prometheus.yaml', 'grafana.json', 'rung.rules.yaml', 'alertmanager.yaml']
      names.push(...monitoring.map((name) => `monitoring/${name}`))
      assert.deepEqual(written, ['Dockerfile', '.dockerignore', ...names.map((name) => `deploy/${name}`)])
      const dockerfile = await readFile(path.join(dir, 'Dockerfile'), 'utf8')
      const ignored = (await readFile(path.join(dir, '.dockerignore'), 'utf8')).split('\n')
      for (const secret of ['**/secret.env', '**/.env*', '**/.npmrc', '**/*.key', '.rung*', '/keys/root', '/var \\[1]'])
        assert.ok(ignored.includes(secret), secret)
      assert.ok(!ignored.some((line) => line.includes('backups')), 'which is outside the folder')
      assert.match(dockerfile, /^COPY vendor\/rung-0\.1\.0\.tgz vendor\/rung-0\.1\.0\.tgz$/m)
      assert.match(await readFile(path.join(dir, 'deploy/compose.yaml'), 'utf8'), /^ {2}build: \.\.$/m)
    }))

  it('writes its own files again, and leaves those of others as they are', () =>
    withApp('1.0.0', async (dir, run) => {
      await writeFile(path.join(dir, 'Dockerfile'), 'FROM mine\n')
      await run('kubernetes', '1k', '--out', 'deploy')
      const mine = path.join(dir, 'deploy/kustomization.yaml')
      const changed = `${(await readFile(mine, 'utf8')).replace('latest', 'abc')}components: [spot]\n`
      await writeFile(mine, changed)
      const { written, kept } = await run('kubernetes', '10k', '--out', 'deploy')
      assert.deepEqual(kept, ['Dockerfile', 'deploy/kustomization.yaml'])
      assert.ok(written.includes('deploy/base/kustomization.yaml'))
      assert.equal(await readFile(path.join(dir, 'Dockerfile'), 'utf8'), 'FROM mine\n')
      assert.equal(await readFile(mine, 'utf8'), changed)
      assert.match(await readFile(path.join(dir, 'deploy/base/kustomization.yaml'), 'utf8'), /RUNG_TOPOLOGY=10k/)
    }))

  it('refuses what an image cannot be made of, and says what to do', async () => {
    await withApp('file:../rung-0.1.0.tgz', async (_, run) => {
      const { code, error } = await run('compose', '--out', '.')
      assert.deepEqual([code, error.code], [1, 'CONFIG_INVALID'])
      assert.match(error.message, /Run: mkdir -p vendor && cp \.\.\/rung-0\.1\.0\.tgz vendor\//)
    })
    await withApp(undefined, async (_, run) => {
      assert.match((await run('compose', '--out', '.')).error.message, /does not name "rung"/)
      assert.equal((await run('swarm', '--out', '.')).error.code, 'COMMAND_INVALID')
      assert.equal((await run('compose')).error.code, 'COMMAND_INVALID')
    })
  })
})
