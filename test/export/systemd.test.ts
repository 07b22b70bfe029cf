import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { type Machine, systemdFiles } from '../../src/export/systemd.ts'
import { deploymentOf } from '../../src/fleet/deployment.ts'
import { engines } from '../../src/fleet/engines.ts'
import { readSettings, type Sources } from '../../src/topology/read-settings.ts'

const golden = path.join(import.meta.dirname, 'systemd')
const machine: Machine = {
  cwd: '/srv/shop',
  program: ['/usr/bin/node', '/srv/shop/rung.js'],
  dataDir: '/srv/shop/.rung',
  backupDir: undefined,
}

function filesOf(sources: Sources, of: Partial<Machine> = {}) {
  const settings = readSettings(sources)
  return systemdFiles({
    settings,
    deployment: deploymentOf(settings, engines),
    app: { name: 'shop', file: undefined, stopMs: 42_000, requestTimeoutMs: 30_000, trustedProxies: [] },
    context: '..',
    machine: { ...machine, ...of },
  })
}

const oneServer = {
  ...{ HOST: '0.0.0.0', PORT: '443', RUNG_PLAIN_PORT: '80', RUNG_EDGE: 'on', RUNG_BACKUP_DIR: '/mnt/backups' },
  ...{ RUNG_TLS_CERT: '/etc/shop/tls/cert.pem', RUNG_TLS_KEY: '/etc/shop/tls/key.pem' },
  ...{ RUNG_SMTP_URL: 'smtps://me:hidden@mail.example', RUNG_MAIL_FROM: 'Shop 24 <shop@shop.example>' },
}

describe('units of systemd', () => {
  it('are these for one server, and contain no secret', async () => {
    const files = filesOf({ env: oneServer }, { backupDir: '/mnt/backups' })
    assert.deepEqual(Object.keys(files), ['shop.service', 'shop.env', 'shop-drill.service', 'shop-drill.timer'])
    for (const [name, text] of Object.entries(files)) {
      if (process.env.UPDATE_GOLDEN) await writeFile(path.join(golden, name), text)
      assert.equal(text, await readFile(path.join(golden, name), 'utf8'), `${name}; if it is meant: UPDATE_GOLDEN=1`)
      assert.doesNotMatch(text, /hidden/)
    }
  })

  it('give a stop as long as its waves may take, and grant what is needed only', () => {
    const service = (env: Record<string, string>, rung: string, of: Partial<Machine> = {}) =>
      filesOf({ env, options: { rung } }, of)['shop.service']!
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
    const files = filesOf({ env: bucket }, { backupDir: '/srv/shop/.rung/backups' })
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
      const files = filesOf({ env: oneServer }, { backupDir: '/mnt/backups', program: [process.execPath], cwd: dir })
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
