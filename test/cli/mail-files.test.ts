import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pictureOf } from '../../src/cli/files.ts'
import { main } from '../../src/cli/main.ts'
import { openDataDir } from '../../src/engines/postgres/data-dir.ts'
import { noteStart } from '../../src/fleet/started.ts'
import { emlMail } from '../../src/primitives/mail/eml.ts'

describe('rung mail and rung files', () => {
  let dir: string
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'rung-mail-'))
    await openDataDir(dir)
  })
  after(() => rm(dir, { recursive: true, force: true }))

  const envOf = (mode: string) => ({ RUNG_DATA: dir, NODE_ENV: mode, RUNG_CONFIG: 'none' })
  async function rung(args: string[], mode = 'development') {
    const told = { lines: [] as string[], notes: [] as string[], json: undefined as unknown }
    const code = await main(args, envOf(mode), dir, {
      line: (text = '') => void told.lines.push(text),
      note: (text) => void told.notes.push(text),
      json: (value) => {
        told.json = value
      },
    })
    return { code, ...told }
  }

  it('say what would be here', async () => {
    assert.match((await rung(['mail'])).lines.join(), /^No mail yet\./)
    assert.match((await rung(['files'])).lines.join(), /no file here yet/)
    assert.deepEqual((await rung(['files', '--json'])).json, { hidden: null, files: [], total: 0, more: false })
  })

  it('show a mail as a terminal can print it, and nothing outside of the folder', async () => {
    const inbox = await emlMail({ folder: path.join(dir, 'mail') })
    const content = Buffer.from('Subject: \x1b[31mred\r\nTo: ann@example.org\r\n\r\none \x1b[2Jtwo\r\n')
    await inbox.send({ from: 'shop@example.org', to: ['ann@example.org', 'bob@example.org'], content })
    const listed = await rung(['mail'])
    assert.match(listed.lines[0]!, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}ann@example\.org, +bob@example\.org$/)
    assert.equal(listed.lines[1], '  ?[31mred')
    for (const line of listed.lines) assert.ok(line.length <= 80, line)
    const { mails } = (await rung(['mail', 'list', '--json'])).json as { mails: { id: string; hasHtml: boolean }[] }
    assert.equal(mails[0]!.hasHtml, false)
    assert.match(
      (await rung(['mail', 'show', mails[0]!.id])).lines.join('\n'),
      /^subject: \?\[31mred$[\s\S]*one \?\[2Jtwo/m,
    )
    for (const id of ['../rung.json', '..', 'nothing']) assert.equal((await rung(['mail', 'show', id])).code, 1, id)
    assert.equal((await rung(['mail', 'show'])).code, 1)
  })

  it('show nothing in production: neither where nothing runs, nor where a process of that mode does', async () => {
    const isHidden = async (mode: string) => {
      const { hidden, mails } = (await rung(['mail', '--json'], mode)).json as {
        hidden: string | null
        mails: unknown[]
      }
      const id = '20261130T232626983Z-58697cc6'
      if (hidden !== null) {
        assert.deepEqual(mails, [])
        assert.match(hidden, /^This is for development only/)
        assert.match((await rung(['mail', 'show', id], mode)).notes.join(), /for development only/)
        assert.deepEqual((await rung(['files', '--json'], mode)).json, { hidden, files: [], total: 0, more: false })
        await assert.rejects(pictureOf({ env: envOf(mode), values: {}, cwd: dir }, 'a/b.png'), { message: hidden })
      }
      return hidden !== null
    }
    assert.equal(await isHidden('production'), true)
    assert.equal(await isHidden('test'), false)
    const note = await noteStart(dir, { role: 'both', app: 'shop', mode: 'production' })
    assert.equal(await isHidden('development'), true)
    await note.ended()
    const other = await noteStart(dir, { role: 'both', app: 'shop', mode: 'development' })
    assert.equal(await isHidden('production'), false)
    await other.ended()
  })
})
