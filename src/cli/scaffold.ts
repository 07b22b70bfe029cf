export interface Versions {
  /** Where npm finds Rung, if that is known. */
  rung: string | undefined
  typebox: string
  typescript: string
  /** Version of `@types/node`. */
  types: string
}

/**
 * The files of a new app, as text. Pure.
 * @param install the command that installs its packages
 */
export function scaffold(name: string, versions: Versions, install: string): Record<string, string> {
  return {
    'package.json': `${JSON.stringify(
      {
        name,
        private: true,
        type: 'module',
        engines: { node: '>=22.18.0' },
        scripts: { dev: 'rung dev', start: 'rung start', check: 'tsc', test: 'rung test' },
        dependencies: { ...(versions.rung !== undefined && { rung: versions.rung }), typebox: versions.typebox },
        devDependencies: { '@types/node': versions.types, typescript: versions.typescript },
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
import { type TestApp, testApp } from 'rung/testing'
import definition from '../app.ts'

let app: TestApp
before(async () => {
  app = await testApp(definition) // a database of its own, in a real Postgres
})
after(() => app?.stop())

test('a note that was written is there', async () => {
  const ann = app.client() // keeps cookies, as a browser does: it sees what it has written, also where replicas are late
  const { body: note } = await ann.request('/notes', { json: { text: 'Buy milk' }, expect: 201 })
  assert.deepEqual((await ann.request(\`/notes/\${note.id}\`, { expect: 200 })).body, { id: note.id, text: 'Buy milk' })
  assert.deepEqual(await app.data('notes').read((sql) => sql\`select text from notes.note\`), [{ text: 'Buy milk' }])
})

test('a note needs a text', async () => {
  const { body: problem } = await app.request('/notes', { json: { text: '' }, expect: 422 })
  assert.equal(problem.code, 'HTTP_VALIDATION')
})

test('there is no note that nobody wrote', async () => {
  const { body: problem } = await app.request('/notes/1000', { expect: 404 })
  assert.equal(problem.code, 'HTTP_NOT_FOUND')
})
`,
    'tsconfig.json': `${JSON.stringify(
      {
        compilerOptions: {
          target: 'es2024',
          lib: ['es2024'],
          module: 'nodenext',
          types: ['node'],
          strict: true,
          noUncheckedIndexedAccess: true,
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
    '.gitignore': 'node_modules/\n.rung/\n.staging/\nhistory.jsonl\n*.cpuprofile\n',
    'README.md': `# ${name}

    ${install}
    npm run dev     # the app, restarted at every change; its own Postgres in .rung/
    npm run check   # types
    npm test
    npx rung doctor # what the database says about the app

\`app.ts\` lists the modules; \`notes/\` is one: a migration, routes, a schema for each.
The guides are in \`node_modules/rung/docs/guides\`; begin with \`write-an-app.md\`.
`,
  }
}
