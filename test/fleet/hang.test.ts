import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { backupDirOf, done } from '../support/backups.ts'
import { idsIn, post, write } from '../support/ledger.ts'
import { noNats } from '../support/nats.ts'
import { noNginx } from '../support/nginx.ts'
import { ended, type Facts, type Launched, openScratch, type Scratch, sameExit, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

interface Part {
  name: string
  state: string
  pid: number
  restarts: number
  reason?: string
}

/** They live on, as if in an endless loop: nobody hears of their end. */
describe('a part of rung up that hangs', { skip: noRedis || noNginx || noNats }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    up = scratch.launch({
      up: '10k',
      env: { RUNG_UNRESPONSIVE_MS: '3000', RUNG_BACKUP_DIR: backupDirOf(scratch), RUNG_EVENTS: 'jetstream' },
    })
    facts = await up.started
  })
  after(() => scratch?.end())

  async function partOf(name: string): Promise<Part> {
    const { parts } = (await done(scratch, ['ps'])) as { parts: Part[] }
    return parts.find((part) => part.name === name)!
  }

  async function isReplaced(old: Part): Promise<string[]> {
    await until(async () => {
      const now = await partOf(old.name)
      return now.state === 'running' && now.pid !== old.pid && now.reason === 'did not answer for 3 s'
    }, `${old.name} is replaced`)
    await ended(old.pid)
    const { lines } = (await done(scratch, ['logs', old.name, '--lines', '10000'])) as { lines: { text: string }[] }
    const texts = lines.map(({ text }) => text)
    assert.ok(texts.some((text) => text.endsWith('rung up: did not answer for 3 s; restarting it')))
    return texts
  }

  /** The edge is several processes. */
  const hang = ({ pid, name }: Part) => process.kill(name === 'edge' ? -pid : pid, 'SIGSTOP')

  it('is ended and started again, and requests are answered: a web process and a worker', async () => {
    await write(facts, 'before')
    const parts = [await partOf('web-1'), await partOf('worker-1')]
    for (const part of parts) hang(part)
    for (const part of parts) await isReplaced(part)
    await until(async () => (await post(facts, 'after')) === '201', 'writes are taken again')
    assert.deepEqual(await idsIn(facts), ['after', 'before'])
    assert.match(up.stderr(), /^ {2}worker-1 +did not answer for 3 s; restarting it$/m)
  })

  for (const name of ['redis', 'nats', 'edge', 'archiver', 'postgres']) {
    it(`${name} too`, async () => {
      const part = await partOf(name)
      hang(part)
      const lines = await isReplaced(part)
      if (name === 'postgres')
        assert.ok(
          lines.some((line) => line.includes('received immediate shutdown request')),
          lines.filter((line) => !line.includes('FATAL')).join('\n'),
        )
      await until(async () => (await post(facts, `after ${name}`)) === '201', 'writes are taken again')
      assert.ok((await idsIn(facts)).includes('before'))
    })
  }

  it('is seen in the table', async () => {
    const ps = scratch.launch({ command: ['ps'] })
    await ps.exited
    assert.match(ps.stdout(), /^web-1 was restarted: did not answer for 3 s$/m)
    sameExit(await up.stop(), 0)
  })
})
