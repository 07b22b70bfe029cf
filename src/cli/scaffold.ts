/** The files of a new app, as text. Pure. */
export function scaffold(name: string, versions: { rung: string; typebox: string }): Record<string, string> {
  return {
    'package.json': `${JSON.stringify(
      {
        name,
        private: true,
        type: 'module',
        engines: { node: '>=22.18.0' },
        scripts: { dev: 'rung dev', start: 'rung start', test: 'node --test' },
        dependencies: { rung: versions.rung, typebox: versions.typebox },
      },
      null,
      2,
    )}\n`,
    'app.ts': `import { defineApp } from 'rung'
import { notes } from './notes/module.ts'

export default defineApp({ name: '${name}', modules: [notes] })
`,
    'notes/module.ts': `import { defineModule, RungError } from 'rung'
import { Type } from 'typebox'

const Note = Type.Object({ id: Type.Integer(), text: Type.String() })
type NoteRow = { id: number; text: string }

export const notes = defineModule({
  name: 'notes',
  owner: 'everybody',
  migrations: new URL('./migrations/', import.meta.url),

  routes(http, { data }) {
    http.get('/notes', { schema: { response: { 200: Type.Array(Note) } } }, () =>
      data.read((sql) => sql<NoteRow>\`select id, text from notes.note order by id desc limit 100\`),
    )

    http.get(
      '/notes/:id',
      { schema: { params: Type.Object({ id: Type.Integer({ minimum: 1 }) }), response: { 200: Note } } },
      async (request) => {
        const { id } = request.params
        const [note] = await data.read((sql) => sql<NoteRow>\`select id, text from notes.note where id = \${id}\`)
        if (!note) throw new RungError('HTTP_NOT_FOUND', \`There is no note \${id}.\`)
        return note
      },
    )

    http.post(
      '/notes',
      { schema: { body: Type.Object({ text: Type.String({ minLength: 1, maxLength: 1000 }) }), response: { 201: Note } } },
      async (request, reply) => {
        const { text } = request.body
        const [note] = await data.write((tx) => tx<NoteRow>\`insert into notes.note (text) values (\${text}) returning id, text\`)
        return reply.status(201).send(note!)
      },
    )
  },
})
`,
    'notes/migrations/0001_note.sql': `create table note (
  id bigint generated always as identity primary key,
  text text not null,
  created_at timestamptz not null default now()
);
`,
    'test/notes.test.ts': `import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startForTest, type TestApp } from 'rung/testing'
import app from '../app.ts'

let running: TestApp
before(async () => {
  running = await startForTest(app)
})
after(() => running.stop())

test('a note that was written is there', async () => {
  const written = await fetch(\`\${running.url}/notes\`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text: 'Buy milk' }),
  })
  assert.equal(written.status, 201)
  const { id } = (await written.json()) as { id: number }
  const read = await fetch(\`\${running.url}/notes/\${id}\`)
  assert.deepEqual(await read.json(), { id, text: 'Buy milk' })
})

test('a note needs a text', async () => {
  const answer = await fetch(\`\${running.url}/notes\`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text: '' }),
  })
  assert.equal(answer.status, 422)
})
`,
    'tsconfig.json': `${JSON.stringify(
      {
        compilerOptions: {
          target: 'es2024',
          module: 'nodenext',
          strict: true,
          noEmit: true,
          erasableSyntaxOnly: true,
          verbatimModuleSyntax: true,
          allowImportingTsExtensions: true,
          skipLibCheck: true,
        },
      },
      null,
      2,
    )}\n`,
    '.gitignore': 'node_modules/\n.rung/\n',
    'README.md': `# ${name}

    npm install
    npm run dev     # the app, restarted at every change; its own Postgres in .rung/
    npm test
    npx rung doctor # what the database says about the app

\`app.ts\` lists the modules; \`notes/\` is one: a migration, routes, a schema for each.
`,
  }
}
