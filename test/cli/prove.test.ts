import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runningFleet } from '../../src/fleet/state.ts'
import type { ProofView } from '../../src/prove/report.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { launchRung, type Scratch, until, withScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Each process answers with the first text that it has seen, as a cache does that nobody invalidates. */
const forgetful = `import { defineApp, defineModule } from 'rung'
import { Type } from 'typebox'
const Note = Type.Object({ text: Type.String() })
const shown = new Map<string, string>()
const notes = defineModule({
  name: 'notes',
  owner: 'test',
  migrations: new URL('./migrations/', import.meta.url),
  routes(http, { data }) {
    http.put('/notes/:id', { schema: { params: Type.Object({ id: Type.String() }), body: Note } }, async ({ params: { id }, body: { text } }) => {
      await data.write((tx) => tx\`insert into notes.note (id, text) values (\${id}, \${text}) on conflict (id) do update set text = excluded.text\`)
      return { text }
    })
    http.get('/notes/:id', { schema: { params: Type.Object({ id: Type.String() }) } }, async ({ params: { id } }) => {
      const [row] = await data.read((sql) => sql<{ text: string }>\`select text from notes.note where id = \${id}\`)
      if (!shown.has(id)) shown.set(id, row!.text)
      return { text: shown.get(id) }
    })
  },
})
export default defineApp({ name: 'forgetful', modules: [notes], http: { title: 'Notes', version: '1' } })
`
const proof = `import { defineProof } from 'rung/prove'
export default defineProof({
  users: async () => [{ note: 'one' }, { note: 'two' }],
  registers: [{
    name: 'note',
    keys: ({ note }) => [note],
    write: (client, key, text) => client.put(\`/notes/\${key}\`, { text }),
    read: async (client, key) => (await client.get<{ text: string }>(\`/notes/\${key}\`)).text,
  }],
})
`

async function project({ dir }: Scratch): Promise<string> {
  const at = path.join(dir, 'notes')
  await mkdir(path.join(at, 'node_modules'), { recursive: true })
  await mkdir(path.join(at, 'migrations'))
  await symlink(root, path.join(at, 'node_modules/rung'))
  await symlink(path.join(root, 'node_modules/typebox'), path.join(at, 'node_modules/typebox'))
  await writeFile(path.join(at, 'package.json'), '{"type":"module"}')
  await writeFile(
    path.join(at, 'migrations/0001_note.sql'),
    'create table note (id text primary key, text text not null);\n',
  )
  await writeFile(path.join(at, 'app.ts'), forgetful)
  return at
}

const proofsIn = async (dir: string) => (await readdir(dir)).filter((name) => name.startsWith('rung-prove-'))

describe('rung prove', () => {
  it('finds what is not held, and says in words what was seen', () =>
    withScratch(async (scratch) => {
      const cwd = await project(scratch)
      const run = async (...words: string[]) => {
        const command = ['prove', 'app.ts', '--faults', 'none', '--minutes', '0.1', '--seed', '3', ...words]
        const outside = {
          DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
          RUNG_S3_URL: 's3://key:secret@127.0.0.1:1/files',
        }
        const launched = launchRung({ command, cwd, env: { TMPDIR: scratch.dir, RUNG_DATA: undefined, ...outside } })
        const { code } = await launched.exited
        return { code, stdout: launched.stdout(), stderr: launched.stderr() }
      }
      assert.match((await run('--proof', 'other.ts')).stderr, /PROOF_INVALID[\s\S]*There is no other\.ts/)
      await writeFile(path.join(cwd, 'prove.ts'), 'export default { users: async () => [] }')
      assert.match((await run()).stderr, /PROOF_INVALID[\s\S]*names nothing that is written/)
      await writeFile(path.join(cwd, 'prove.ts'), proof)
      assert.match((await run('--faults', 'kil')).stderr, /COMMAND_INVALID[\s\S]*There is no fault "kil"/)
      assert.match((await run('--report', 'app.ts/proof.html')).stderr, /COMMAND_INVALID[\s\S]*cannot be written/)
      assert.deepEqual(await proofsIn(scratch.dir), [], 'nothing was started')

      const { code, stdout, stderr } = await run('--report', 'proof.html')
      assert.equal(code, 1, stdout + stderr)
      assert.match(stdout, /^A session sees what it wrote and saw +[\d,]+ answers +[\d,]+ +0 NOT HELD$/m)
      assert.match(stdout, /^read-your-writes: Session visitor \d+ read v\d of note (one|two)/m)
      assert.match(stdout, /Not all promises were held\. To repeat it: rung prove app\.ts .*--seed 3/)
      for (const line of stdout.split('\n'))
        assert.ok(line.length <= 80 || /^(Not all|History)/.test(line), `${line.length}: ${line}`)
      const [kept] = await proofsIn(scratch.dir)
      assert.ok(existsSync(path.join(scratch.dir, kept!, 'history.jsonl')))
      const page = await readFile(path.join(cwd, 'proof.html'), 'utf8')
      assert.match(page, /Proof of rung 1k: not all promises were held/)
      assert.match(page, /To repeat it: rung prove app\.ts --faults none --minutes 0\.1 --seed 3</)
      assert.doesNotMatch(page, /src=|href=|@import/, 'it stands for itself')

      // What does not start leaves its logs, and says where.
      await writeFile(path.join(cwd, 'app.ts'), 'throw new Error()')
      const { error } = JSON.parse((await run('--json')).stdout)
      assert.equal(error.code, 'PROOF_FAILED')
      assert.notEqual(error.folder, path.join(scratch.dir, kept!))
      assert.ok(error.message.endsWith(` Its folder is kept: ${error.folder}`) && existsSync(error.folder))
    }))

  it('leaves nothing that runs when it is ended, or killed', () =>
    withScratch(async (scratch) => {
      const cwd = await project(scratch)
      await writeFile(path.join(cwd, 'prove.ts'), proof)
      for (const how of ['SIGINT', 'SIGKILL'] as const) {
        const known = await proofsIn(scratch.dir)
        const command = ['prove', '1k', 'app.ts', '--faults', 'none', '--minutes', '5']
        const one = launchRung({ command, cwd, env: { TMPDIR: scratch.dir, RUNG_DATA: undefined } })
        await one.saw(/of 300 s/)
        const [name] = (await proofsIn(scratch.dir)).filter((name) => !known.includes(name))
        const dataDir = path.join(scratch.dir, name!)
        assert.ok(await runningFleet(dataDir))
        await one.stop(how)
        if (how === 'SIGINT') assert.ok(!existsSync(dataDir), 'the folder is gone too')
        await until(async () => (await runningFleet(dataDir)) === undefined, 'the fleet is stopped')
      }
    }))

  it('holds for Conduit at 100k while parts of it fail', { skip: noRedis || noNginx || noHaproxy || noPooler }, () =>
    withScratch(async ({ dir }) => {
      const command = [
        'prove',
        '100k',
        path.join(root, 'examples/conduit/app.ts'),
        '--minutes',
        '0.8',
        '--seed',
        '6',
        '--json',
      ]
      const { exited, stdout, stderr } = launchRung({ command, cwd: root, env: { TMPDIR: dir, RUNG_DATA: undefined } })
      const { code } = await exited
      assert.equal(code, 0, stdout().slice(-6_000) + stderr())
      const { held, faults, promises } = JSON.parse(stdout()) as ProofView
      assert.ok(held && faults.length > 0)
      for (const { promise, checked } of promises) assert.doesNotMatch(checked, /^0 /, `${promise} was checked`)
      assert.deepEqual(await proofsIn(dir), [])
    }),
  )
})
