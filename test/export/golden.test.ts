import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { nodeImage } from '../../src/export/image.ts'
import {
  filesFor,
  goldenFiles,
  goldenOnDisk,
  rungNames,
  type Target,
  targets,
  withoutHashes,
} from '../support/exported.ts'

const all = Object.keys(targets) as Target[]

/** The lines that a rung has and the next one has not, in files that both have. */
function gone(target: Target, from: string, to: string): string[] {
  const next = filesFor(target, to)
  return Object.entries(filesFor(target, from))
    .filter(([name]) => name in next && !name.includes('edge/'))
    .flatMap(([name, text]) => {
      const kept = new Set(withoutHashes(next[name]!).split('\n'))
      return withoutHashes(text)
        .split('\n')
        .filter((line) => !kept.has(line))
    })
    .map((line) => line.trim())
}

describe('what rung export writes', () => {
  it('is what was looked at; after a change: node --conditions=rung-source scripts/golden.ts, and look at the difference', () => {
    const [now, before] = [goldenFiles(), goldenOnDisk()]
    assert.deepEqual([...now.keys()].sort(), [...before.keys()].sort())
    for (const [file, text] of now) assert.equal(text, before.get(file), file)
  })

  it('is added to by a climb: these lines are all that are not there any more', () => {
    assert.deepEqual(gone('compose', '1k', '10k'), ['RUNG_TOPOLOGY: "1k"', 'app:'])
    assert.deepEqual(gone('compose', '10k', '100k'), [
      'stop_grace_period: 60s',
      'RUNG_TOPOLOGY: "10k"',
      'environment: { <<: *environment, RUNG_ROLE: web }',
      'depends_on: [web-1]',
      'command: [postgres, -c, config_file=/etc/postgresql/postgresql.conf]',
      "max_connections = '100'",
    ])
    assert.deepEqual(gone('kubernetes', '1k', '10k'), [
      '- app.yaml',
      '- RUNG_TOPOLOGY=1k',
      '- "RUNG_TRUST_PROXY=10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10"',
      'metadata: { name: app }',
      'podSelector: { matchLabels: { part: app } }',
      '- podSelector: { matchLabels: { part: app } }',
    ])
    assert.deepEqual(gone('kubernetes', '10k', '100k'), [
      '- RUNG_TOPOLOGY=10k',
      'instances: 1',
      'max_connections: "100"',
      'replicas: 1',
    ])
  })

  it('names secrets, and has none', () => {
    const secret = 'sentinel-that-nobody-may-see-anywhere'
    const env = {
      RUNG_SECRET: secret,
      RUNG_S3_URL: `s3://key:${secret}@store.example.org/bucket`,
      RUNG_SMTP_URL: `smtp://me:${secret}@mail.example.org`,
      RUNG_MAIL_FROM: 'shop@example.org',
      RUNG_CDN: 'fastly',
      RUNG_CDN_ID: 'abc',
      RUNG_CDN_TOKEN: secret,
      RUNG_EDGE_SECRET: secret,
    }
    const elsewhere = {
      ...env,
      DATABASE_URL: `postgres://app:${secret}@db.example.org/app`,
      DATABASE_READ_URL: `postgres://app:${secret}@db-2.example.org/app`,
      RUNG_REDIS_URL: `redis://:${secret}@redis.example.org`,
    }
    const listed = (files: Record<string, string>) =>
      [...(files['.env.example'] ?? files['secret.env.example'])!.matchAll(/^(\w+)=$/gm)].map((match) => match[1]!)
    for (const target of all) {
      for (const rung of rungNames) {
        const files = filesFor(target, rung, elsewhere)
        for (const [name, text] of Object.entries({ ...files, ...filesFor(target, rung, env) }))
          assert.ok(!text.includes(secret), `${target} ${rung} ${name}`)
        const names = [
          'RUNG_SECRET',
          'RUNG_S3_URL',
          'RUNG_SMTP_URL',
          'DATABASE_URL',
          'DATABASE_READ_URL',
          'RUNG_REDIS_URL',
        ]
        for (const name of [...names, 'RUNG_CDN_TOKEN']) assert.ok(listed(files).includes(name), `${target} ${name}`)
        assert.match(Object.values(files).join('\n'), /RUNG_CDN_ID[=:] ?"?abc/)
      }
    }
  })

  it('names the file of the app so that no platform replaces a part of it', () => {
    const of = (target: Target) => Object.values(filesFor(target, '1k', {}, { file: '$HOME/$(id).ts' })).join('')
    assert.equal(of('compose').match(/\[(start|migrate), "\$\$HOME\/\$\$\(id\)\.ts"\]/g)!.length, 2)
    assert.equal(of('kubernetes').match(/\[(start|migrate), "\$\$HOME\/\$\$\(id\)\.ts"\]/g)!.length, 2)
  })

  it('runs on the Node with which Rung is tested', () => {
    const { devDependencies } = JSON.parse(
      readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8'),
    )
    assert.equal(nodeImage, `node:${devDependencies.node}-bookworm-slim`)
  })
})
