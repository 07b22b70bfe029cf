export interface Versions {
  /** Where npm finds Rung, if that is known. */
  rung: string | undefined
  typebox: string
  typescript: string
  /** Of `@types/node`. */
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
        scripts: { dev: 'rung dev', start: 'rung start', check: 'tsc', test: 'node --test' },
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
import type { Problem } from 'rung'
import { startForTest, type TestApp } from 'rung/testing'
import app from '../app.ts'

let running: TestApp
before(async () => {
  running = await startForTest(app)
})
after(() => running.stop())

/** The answer's body, once its status is the expected one. A failure shows the error of the app: where it was thrown, and why. */
async function answer(status: number, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(running.url + path, {
    method: body === undefined ? 'GET' : 'POST',
    ...(body !== undefined && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  })
  const answered = (await response.json()) as Partial<Problem>
  const { at, frame, errors = [] } = answered.fault ?? {}
  const reasons = errors.map(({ name, message }) => \`\${name}: \${message}\`)
  const told = [\`\${path} answers \${response.status}: \${answered.detail}\`, ...reasons, at, frame]
  assert.equal(response.status, status, told.filter(Boolean).join('\\n'))
  return answered
}

test('a note that was written is there', async () => {
  const { id } = (await answer(201, '/notes', { text: 'Buy milk' })) as { id: number }
  assert.deepEqual(await answer(200, \`/notes/\${id}\`), { id, text: 'Buy milk' })
})

test('a note needs a text', async () => {
  const problem = (await answer(422, '/notes', { text: '' })) as { code: string }
  assert.equal(problem.code, 'HTTP_VALIDATION')
})

test('there is no note that nobody wrote', async () => {
  const problem = (await answer(404, '/notes/1000')) as { code: string }
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
    '.gitignore': 'node_modules/\n.rung/\n',
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
