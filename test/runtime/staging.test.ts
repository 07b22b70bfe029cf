import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { appendFile, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { backupDirOf, done, filesOf, rung } from '../support/backups.ts'
import { sameExit, withScratch } from '../support/process.ts'

const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))

it('is the latest backup without what is personal, and does nothing by itself', () =>
  withScratch(async (scratch) => {
    const first = await scratch.start({ app, env: { RUNG_BACKUP_DIR: backupDirOf(scratch) } })
    const post = async (url: string, body: object, token?: string) => {
      const headers = { 'content-type': 'application/json', ...(token && { authorization: `Token ${token}` }) }
      const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
      return {
        status: answer.status,
        body: (await answer.json()) as never as { user: { token: string }; article: { slug: string } },
      }
    }
    const people = ['ann', 'bob'].map((username) => ({
      username,
      email: `${username}@mail.test`,
      password: 'very secret',
    }))
    const tokens: string[] = []
    for (const user of people) tokens.push((await post(`${first.url}/api/users`, { user })).body.user.token)
    const article = { title: 'About tea', description: 'd', body: 'words', tagList: [] }
    const made = await post(`${first.url}/api/articles`, { article }, tokens[0])
    assert.equal(made.status, 201)
    const sql = await scratch.connect()
    await sql.query(
      `update identity.account set bio = 'Born 1970,' || chr(10) || 'in Rome', image = 'https://a.test/me.png' where username = 'ann'`,
    )
    await sql.query(`insert into rung.job (queue, name, payload, priority, run_at, attempts_max, keep)
      values ('mail', 'nobody.handles', '{"to":"ann@mail.test"}', 0, now() + interval '1 day', 3, false)`)
    const command = path.join(scratch.dir, 'command-ran')
    const autoConf = (dataDir: string) => path.join(dataDir, 'postgres', 'postgresql.auto.conf')
    await appendFile(autoConf(scratch.dataDir), `recovery_end_command = 'touch ${command}'\n`)
    const conf = (dataDir: string) => path.join(dataDir, 'postgres', 'postgresql.conf')
    const outsidePid = path.join(scratch.dir, 'outside.pid')
    await appendFile(conf(scratch.dataDir), `external_pid_file = '${outsidePid}'\nlog_directory = '${scratch.dir}'\n`)
    await done(scratch, ['backup'])

    const into = path.join(scratch.dir, 'staging')
    const { columns, emptied, start } = await done(scratch, ['staging', '--into', into])
    assert.deepEqual(
      columns.map(({ column, as, rows }: { column: string; as: string; rows: number }) => [column, as, rows]),
      [
        ['identity.account.username', 'name', 2],
        ['identity.account.email', 'email', 2],
        ['identity.account.password_hash', 'secret', 2],
        ['identity.account.bio', 'text', 2],
        ['identity.account.image', 'remove', 2],
      ],
    )
    for (const table of ['rung.job', 'rung.session', 'rung.idempotency']) assert.ok(emptied.includes(table), table)
    assert.match(start, /^NODE_ENV=development RUNG_DATA=\S+ rung up$/)
    assert.ok(!existsSync(path.join(into, 'secret')))
    assert.ok(!existsSync(command), 'no command of the original server ran')
    assert.equal(await readFile(autoConf(into), 'utf8'), 'archive_mode = off\n')
    assert.doesNotMatch(await readFile(conf(into), 'utf8'), /external_pid_file|log_directory/)
    assert.match(await readFile(conf(into), 'utf8'), /^timezone = /m)
    assert.ok(!existsSync(outsidePid), 'nothing outside of the copy was written')

    // Whoever starts it, also with the environment of the original.
    const outside = {
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      RUNG_S3_URL: 's3://key:secret@127.0.0.1:1/bucket',
      RUNG_BACKUP_DIR: backupDirOf(scratch),
      RUNG_SECRET: await readFile(path.join(scratch.dataDir, 'secret'), 'utf8'),
    }
    const copy = await scratch.start({ app, dataDir: into, env: outside })
    assert.match(copy.stderr(), new RegExp(`isolated: ${Object.keys(outside).join(', ')}$`, 'm'))
    const other = await scratch.connect(into)
    const { rows } = await other.query('select username, email, bio, image from identity.account order by id')
    assert.match(rows[0].username, /^p[0-9a-f]{15}$/)
    assert.match(rows[0].email, /^[0-9a-f]{16}@example\.com$/)
    assert.deepEqual([rows[0].bio, rows[0].image, rows[1].bio], ['xxxx xxxx,\nxx xxxx', null, null])
    const { rows: jobs } = await other.query(`select from rung.job where name = 'nobody.handles'`)
    assert.equal(jobs.length, 0)
    const shown = await fetch(`${copy.url}/api/articles/${made.body.article.slug}`)
    const read = (await shown.json()) as { article: { body: string; author: { username: string } } }
    assert.deepEqual(
      [read.article.body, read.article.author.username],
      ['words', rows[0].username],
      'what is not personal is there',
    )
    assert.equal(
      (await fetch(`${copy.url}/api/user`, { headers: { authorization: `Token ${tokens[0]}` } })).status,
      401,
    )
    assert.equal((await post(`${copy.url}/api/users/login`, { user: people[0]! })).status, 401)
    await other.end()
    sameExit(await copy.stop(), 0)
    assert.deepEqual(await filesOf(scratch, /00000002(\/|\.history)/), [], 'nothing of its timeline is in the archive')

    await sql.query('alter table identity.account add column phone text')
    await done(scratch, ['backup'])
    const again = path.join(scratch.dir, 'again')
    const { code, result } = await rung(scratch, ['staging', '--into', again])
    assert.deepEqual([code, result.error.code], [1, 'STAGING_INVALID'])
    assert.match(result.error.message, /identity\.account\.phone may be personal/)
    assert.deepEqual(await readdir(again), [], 'nothing is left')
    await sql.query(`comment on column identity.account.phone is 'personal: shout'`)
    await done(scratch, ['backup'])
    assert.match(
      (await rung(scratch, ['staging', '--into', again])).result.error.message,
      /masked as "shout"\. There are email, name/,
    )
  }))
