import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { certificateOf, daysLeft, keepCertificate, readCertificate } from '../../src/fleet/certificate.ts'
import { systemClock } from '../../src/kernel/clock.ts'
import { makeCertificate } from '../support/certificates.ts'

const dayMs = 86_400_000

describe('a certificate', () => {
  let dir: string
  let shop: { cert: string; key: string }
  let other: { cert: string; key: string }
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    shop = await makeCertificate(dir, 'shop.example')
    other = await makeCertificate(dir, 'other.example')
  })
  after(() => rm(dir, { recursive: true, force: true }))

  it('is read with its names and its end', async () => {
    const { pem, facts } = await readCertificate(shop)
    assert.deepEqual(facts.names, ['shop.example', 'localhost', '127.0.0.1'])
    assert.equal(Math.round((facts.endsAt - facts.beginsAt) / dayMs), 90)
    assert.match(
      pem,
      /^-----BEGIN CERTIFICATE-----[\s\S]+-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----[\s\S]+-----\n$/,
    )
    assert.doesNotMatch(pem, /\n\n/, 'HAProxy takes an empty line for the end')
  })

  it('is refused with one sentence that says what to do', async () => {
    const put = async (name: string, text: string) => {
      await writeFile(path.join(dir, name), text)
      return path.join(dir, name)
    }
    const [cert, key] = await Promise.all([readFile(shop.cert, 'utf8'), readFile(shop.key, 'utf8')])
    const weak = await makeCertificate(dir, 'weak.example', { bits: 1024 })
    const cases: [files: { cert: string; key: string }, says: RegExp][] = [
      [{ ...shop, cert: '/nowhere/a.pem' }, /^\/nowhere\/a\.pem cannot be read: ENOENT.*Correct the path/],
      [{ ...shop, key: dir }, /cannot be read: EISDIR/],
      [{ ...shop, cert: shop.key }, /shop\.example\.key contains no certificate\. Name the full chain/],
      [{ ...shop, key: other.key }, /other\.example\.key is not the key of the certificate in .*shop\.example\.pem\./],
      [{ ...shop, key: shop.cert }, /contains no key that can be used/],
      [{ ...shop, cert: await put('cut.pem', cert.slice(0, -200)) }, /cut\.pem contains no certificate/],
      [{ ...shop, cert: await put('half.pem', cert + cert.slice(0, 200)) }, /half\.pem a certificate is cut off/],
      [
        { ...shop, cert: await put('bad.pem', cert.replace(/[A-Za-z0-9+/]{40}/, '!'.repeat(40))) },
        /damaged certificate/,
      ],
      [{ ...shop, key: await put('cut.key', key.slice(0, 60)) }, /cut\.key contains no key that can be used/],
      [
        { ...shop, cert: await put('swapped.pem', (await readFile(other.cert, 'utf8')) + cert) },
        /is not the first\. Put it before those of its issuers/,
      ],
      [weak, /cannot be used: .*too small.* Make a new one/],
    ]
    for (const [files, says] of cases) {
      await assert.rejects(readCertificate(files), { code: 'CERTIFICATE_INVALID', message: says }, String(says))
    }
    const at = (days: number) => () => certificateOf(shop, cert, key, Date.now() + days * dayMs)
    assert.equal(daysLeft(at(91)().facts, Date.now() + 90.5 * dayMs), -1)
    assert.throws(at(-1), { message: /begins at 20.* Look at the clock\.$/ })
    assert.equal(at(89)().facts.names[0], 'shop.example')
  })

  it('ends soon in 30 days, or in the last third of a shorter life', () => {
    const left = (life: number, days: number) => daysLeft({ beginsAt: 0, endsAt: life * dayMs }, (life - days) * dayMs)
    assert.deepEqual([left(90, 30), left(90, 29.5), left(365, 31), left(365, 2)], [undefined, 29, undefined, 2])
    assert.deepEqual([left(6, 2.1), left(6, 1.9), left(6, -1)], [undefined, 1, -1])
  })

  // kubernetes/ingress-nginx#6386, Mailu#1302: only a link in the middle changes. caddy#6481: a file is half written.
  it('is found through links to links, and one that is half renewed is left alone until it is whole', async () => {
    await mkdir(path.join(dir, 'one'))
    await mkdir(path.join(dir, 'two'))
    const place = (folder: string, from: typeof shop, what: 'cert' | 'key') =>
      readFile(from[what]).then((text) => writeFile(path.join(dir, folder, what), text))
    for (const what of ['cert', 'key'] as const) await place('one', shop, what)
    await place('two', other, 'cert')
    await place('two', shop, 'key')
    await symlink('one', path.join(dir, 'data'))
    for (const what of ['cert', 'key']) await symlink(`data/${what}`, path.join(dir, `linked-${what}`))
    const files = { cert: path.join(dir, 'linked-cert'), key: path.join(dir, 'linked-key') }
    const used: string[] = []
    const notes: string[] = []
    let refuses = false
    let now = Date.now()
    const kept = keepCertificate(files, await readCertificate(files), {
      async use({ facts }) {
        if (refuses) throw new Error('busy')
        used.push(facts.names[0]!)
      },
      note: (text) => notes.push(text),
      clock: { ...systemClock, now: () => now },
    })
    await kept.reload()
    assert.deepEqual(used, [])
    await symlink('two', path.join(dir, 'data.new'))
    await rename(path.join(dir, 'data.new'), path.join(dir, 'data'))
    for (let look = 0; look < 3; look += 1) await assert.rejects(kept.reload(), { code: 'CERTIFICATE_INVALID' })
    assert.match(kept.problem!, /is not the key of/)
    assert.equal(kept.now.facts.names[0], 'shop.example')
    await place('two', other, 'key')
    refuses = true
    await assert.rejects(kept.reload(), /busy/)
    assert.equal(kept.now.facts.names[0], 'shop.example')
    refuses = false
    await kept.reload()
    await kept.reload()
    assert.deepEqual([used, kept.now.facts.names[0], kept.problem], [['other.example'], 'other.example', undefined])
    assert.equal(notes.length, 3, notes.join('\n'))
    assert.match(notes[2]!, /^is new: other\.example, localhost, 127\.0\.0\.1, until 20/)
    now += 91 * dayMs
    for (const what of ['cert', 'key'] as const) await place('two', shop, what)
    await assert.rejects(kept.reload(), { code: 'CERTIFICATE_INVALID', message: /expired at 20.* Renew it\.$/ })
    assert.equal(kept.now.facts.names[0], 'other.example')
  })
})
