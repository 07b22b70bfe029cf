import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { Machine } from '../../src/export/systemd.ts'
import { oneServer, unitsFor } from '../support/exported.ts'

describe('units of systemd', () => {
  it('contain no secret', () => {
    const files = unitsFor({ env: oneServer }, { backupDir: '/mnt/backups' })
    assert.deepEqual(Object.keys(files), ['shop.service', 'shop.env', 'shop-drill.service', 'shop-drill.timer'])
    assert.match(files['shop.env']!, /^RUNG_SMTP_URL_FILE=/m)
    assert.doesNotMatch(Object.values(files).join(), /hidden/)
  })

  it('give a stop as long as its waves may take, and grant what is needed only', () => {
    const service = (env: Record<string, string>, rung: string, of: Partial<Machine> = {}) =>
      unitsFor({ env, options: { rung } }, of)['shop.service']!
    const seconds = (text: string) => Number(/^TimeoutStopSec=(\d+)$/m.exec(text)![1])
    const [small, large] = [service({}, '1k'), service({}, '100k')]
    assert.deepEqual([seconds(small), seconds(large)], [94, 304])
    assert.match(small, /^CapabilityBoundingSet=$/m)
    assert.doesNotMatch(small, /AmbientCapabilities|Delegate/)
    const quota = service({ RUNG_NODE_CPU: '0.5' }, '10k')
    assert.match(quota, /^Delegate=cpu$/m)
    assert.doesNotMatch(quota, /ProtectControlGroups/)
    assert.match(service({}, '1k', { cwd: '/home/me/a shop' }), /^ProtectHome=read-only$/m)
    const odd = service({ RUNG_DATA: 'x' }, '1k', { dataDir: '/srv/100% "new" $shop', program: ['/opt/no de', 'a$b'] })
    assert.match(odd, /^ReadWritePaths="\/srv\/100%% \\"new\\" \$shop"$/m)
    assert.match(odd, /^ExecStart="\/opt\/no de" a\$\$b up 1k$/m)
  })

  it('write nothing beside the data, and drill what is in the bucket, if backups have no folder of their own', () => {
    const bucket = { RUNG_BACKUP_S3_URL: 's3://key:hidden@s3.example/backups', RUNG_BACKUP_KEY: 'k'.repeat(43) }
    const files = unitsFor({ env: bucket }, { backupDir: '/srv/shop/.rung/backups' })
    assert.match(files['shop.service']!, /^ReadWritePaths="?\/var\/lib\/shop"?$/m)
    assert.match(files['shop-drill.service']!, /backup verify --drill --from s3$/m)
    assert.doesNotMatch(Object.values(files).join(), /hidden|kkkk/)
  })

  it('are accepted by systemd-analyze', async (t) => {
    const run = promisify(execFile)
    const there = await run('systemd-analyze', ['--version']).then(
      () => true,
      () => false,
    )
    if (!there) return t.skip('systemd-analyze is not installed')
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    try {
      const files = unitsFor({ env: oneServer }, { backupDir: '/mnt/backups', program: [process.execPath], cwd: dir })
      const units = Object.keys(files).filter((name) => !name.endsWith('.env'))
      for (const name of units) await writeFile(path.join(dir, name), files[name]!)
      const { stderr } = await run('systemd-analyze', [
        'verify',
        '--man=no',
        ...units.map((name) => path.join(dir, name)),
      ])
      assert.equal(stderr, '')
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})
