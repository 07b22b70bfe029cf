import assert from 'node:assert/strict'
import { chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, beforeEach, describe, it } from 'node:test'
import { macOf } from '../../src/kernel/keys.ts'
import { signedUrl, verifiedGrant } from '../../src/primitives/files/signed-url.ts'
import { sessionTokens } from '../../src/primitives/sessions/token.ts'
import { deriveKeys, prepareRoot, rootFile, storedRoot, switchRoot } from '../../src/runtime/secrets.ts'

const [before, next] = ['a'.repeat(40), 'b'.repeat(40)]

describe('keys of two roots', () => {
  // What processes know, in the order of a rotation in two phases. Processes of neighbouring steps run beside each other.
  const steps = [before, `${before}\n${next}`, `${next}\n${before}@2999-01-01\n`, next]
  const tokensAt = steps.map((step) => sessionTokens(deriveKeys(step)('rung sessions')))

  it('accept, between neighbouring steps, what the other one signs', () => {
    for (const [step, tokens] of tokensAt.slice(1).entries()) {
      const earlier = tokensAt[step]!
      assert.ok(tokens.digest(earlier.fresh()), `${step} → ${step + 1}`)
      assert.ok(earlier.digest(tokens.fresh()), `${step + 1} → ${step}`)
    }
    assert.equal(tokensAt[0]!.digest(tokensAt[2]!.fresh()), undefined, 'without the first phase it would be unknown')
    assert.equal(tokensAt[3]!.digest(tokensAt[1]!.fresh()), undefined, 'in the end the former root counts no more')
  })

  it('renew one session to one successor, whatever the process signs with', () => {
    for (const [one, another] of [[0, 1] as const, [1, 2] as const]) {
      const [a, b] = [tokensAt[one]!, tokensAt[another]!]
      for (const token of [a.fresh(), b.fresh()]) {
        assert.deepEqual(a.digest(a.next(token)), b.digest(b.next(token)))
        assert.deepEqual(a.digest(b.next(token)), b.digest(a.next(token)))
      }
    }
  })

  it('do not depend on blanks at the ends of lines', () => {
    const of = (lines: string) =>
      deriveKeys(lines)('a')
        .accepted()
        .map((key) => macOf(key, 'text'))
    assert.deepEqual(of(`${next} \r\n${before}\r\n`), of(`${next}\n${before}`))
  })

  it('are accepted until their time', () => {
    let now = Date.parse('2027-01-30T23:59:59Z')
    const clock = { now: () => now, ticks: () => now }
    const keys = deriveKeys(`${next}\n${before}@2027-01-31`, clock)('rung/files-url')
    const old = deriveKeys(before)('rung/files-url')
    const expires = String(Date.parse('2028-01-01') / 1000)
    const url = new URL(signedUrl({ key: 'm/a', method: 'GET', expires }, old), 'http://localhost')
    const look = () =>
      verifiedGrant({ key: 'm/a', method: 'GET', query: Object.fromEntries(url.searchParams) }, keys, now).key
    assert.equal(look(), 'm/a')
    now += 1_000
    assert.throws(look, { code: 'FILES_URL_INVALID' })
    assert.equal(keys.accepted().length, 1)
  })
})

describe('the root in the data directory', () => {
  const folders: string[] = []
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    folders.push(dir)
  })
  after(() => Promise.all(folders.map((one) => rm(one, { recursive: true, force: true }))))
  const clock = { now: () => Date.parse('2027-01-01'), ticks: () => 0 }

  it('is made once, replaced in two steps, and an interrupted rotation goes on', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => storedRoot(dir)))
    assert.equal(new Set(all).size, 1)
    const [root] = all
    const { next: first } = await prepareRoot(dir)
    const prepared = await storedRoot(dir)
    const second = prepared.split('\n')[1]!
    assert.deepEqual([prepared, second.length, first], [`${root}\n${second}`, 64, second])
    assert.equal((await prepareRoot(dir)).next, second)
    assert.equal(await storedRoot(dir), prepared)
    await switchRoot(dir, second, 86_400_000, clock)
    assert.equal(await storedRoot(dir), `${second}\n${root}@2027-01-02T00:00:00Z`)
    await writeFile(`${rootFile(dir)}.next`, second) // killed before it was removed
    assert.equal(await storedRoot(dir), `${second}\n${root}@2027-01-02T00:00:00Z`)
    const { next: third } = await prepareRoot(dir)
    assert.equal((await storedRoot(dir)).split('\n')[1], third)
    await switchRoot(dir, third, 86_400_000, { ...clock, now: () => Date.parse('2027-01-03') })
    assert.equal(await storedRoot(dir), `${third}\n${second}@2027-01-04T00:00:00Z`, 'the first one is over')
  })

  it('is not one that a rotation left long ago, which may be stolen', async () => {
    await storedRoot(dir)
    const { next: left } = await prepareRoot(dir)
    const later = (ms: number) => ({ ...clock, now: () => Date.now() + ms })
    assert.equal((await prepareRoot(dir, later(3_500_000))).next, left)
    assert.notEqual((await prepareRoot(dir, later(3_700_000))).next, left)
  })

  it('is replaced by one rotation at a time', async () => {
    await storedRoot(dir)
    const { next: both } = await prepareRoot(dir)
    await switchRoot(dir, both, 1_000)
    await assert.rejects(switchRoot(dir, both, 1_000), { code: 'FLEET_BUSY' })
    await prepareRoot(dir)
    await assert.rejects(switchRoot(dir, both, 1_000), { code: 'FLEET_BUSY' })
  })

  it('belongs to whom the directory belongs, also if root replaces it', { skip: process.getuid!() !== 0 }, async () => {
    await chown(dir, 65_534, 65_534)
    await storedRoot(dir)
    const { next: prepared } = await prepareRoot(dir)
    const owners = async (...files: string[]) => Promise.all(files.map(async (file) => (await stat(file)).uid))
    assert.deepEqual(await owners(rootFile(dir), `${rootFile(dir)}.next`), [65_534, 65_534])
    await switchRoot(dir, prepared, 1_000)
    assert.deepEqual(await owners(rootFile(dir)), [65_534])
  })

  it('is refused where it cannot be read', async () => {
    await mkdir(rootFile(dir))
    await assert.rejects(storedRoot(dir), { code: 'CONFIG_INVALID', message: /secret cannot be read: EISDIR/ })
  })

  it('may be the only line of its file, as before, and is refused where it is damaged', async () => {
    await writeFile(rootFile(dir), before)
    assert.equal(await storedRoot(dir), before)
    for (const damaged of ['', 'short', `${before}\nshort`]) {
      await writeFile(rootFile(dir), damaged)
      await assert.rejects(storedRoot(dir), { code: 'CONFIG_INVALID', message: /is damaged/ })
    }
    assert.equal(await readFile(rootFile(dir), 'utf8'), `${before}\nshort`)
  })
})

it('keys of different purposes and roots differ', () => {
  const of = (root: string, purpose: string) => macOf(deriveKeys(root)(purpose).signing, 'text')
  assert.equal(new Set([of(before, 'a'), of(before, 'b'), of(next, 'a'), of(next, 'b')]).size, 4)
})
