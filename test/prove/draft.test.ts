import assert from 'node:assert/strict'
import { stripTypeScriptTypes } from 'node:module'
import { it } from 'node:test'
import type { OpenApi, Schema } from '../../src/load/draft.ts'
import { draftProof } from '../../src/prove/draft.ts'
import { checkProof, type Proof } from '../../src/prove/proof.ts'

const json = (schema: Schema) => ({ content: { 'application/json': { schema } } })
const object = (properties: Readonly<Record<string, Schema>>): Schema => ({
  ...{ type: 'object', properties, required: Object.keys(properties) },
})
const text: Schema = { type: 'string' }
const answers = (schema: Schema) => ({ responses: { 200: json(schema) } })

const document: OpenApi = {
  paths: {
    '/notes': {
      get: answers(object({ notes: { type: 'array', items: object({ id: text, body: text }) } })),
      post: { requestBody: json(object({ note: object({ kind: { type: 'string', enum: ['short'] }, body: text }) })) },
    },
    '/notes/{id}': {
      get: answers(object({ note: object({ body: text }) })),
      put: { requestBody: json(object({ body: text })) },
    },
    "/it's": { get: answers(object({ motto: text })), put: { requestBody: json(object({ motto: text })) } },
    '/numbers': {
      get: answers({ type: 'array', items: object({ one: { type: 'integer' } }) }),
      post: { requestBody: json(object({ one: { type: 'integer' } })) },
    },
    '/write-only': { post: { requestBody: json(object({ body: text })) } },
  },
}

/** The text as a module, whose import is left out. */
async function proofOf(source: string): Promise<Proof> {
  const code = stripTypeScriptTypes(source.replace(/^import .*$/m, 'const defineProof = (proof) => proof'))
  return ((await import(`data:text/javascript,${encodeURIComponent(code)}`)) as { default: Proof }).default
}

it('a draft writes where it can read the same text again, and names what needs a key', async () => {
  const probes = [
    { path: '/notes', status: 200 },
    { path: '/notes/{id}', status: 200 },
    { path: '/locked', status: 401 },
  ]
  const { text: source, drafted, left } = draftProof(document, probes, 'http://127.0.0.1:3000')
  assert.deepEqual([drafted, left], [2, 1])
  const proof = checkProof(await proofOf(source), 'prove.ts')
  assert.deepEqual(proof.pages, ['/notes'])
  const sent: unknown[] = []
  const client = {
    get: async (path: string) => (path === '/notes' ? { notes: [{ body: 'one' }] } : { motto: 'mine' }),
    post: async (...request: unknown[]) => void sent.push(request),
    put: async (...request: unknown[]) => void sent.push(request),
  } as never
  const [collection, register] = [proof.collections![0]!, proof.registers![0]!]
  await collection.add(client, collection.keys({})[0]!, 'v')
  await register.write(client, register.keys({})[0]!, 'v')
  assert.deepEqual(sent, [
    ['/notes', { note: { kind: 'short', body: 'v' } }],
    ["/it's", { motto: 'v' }],
  ])
  assert.deepEqual(await collection.list(client, ''), ['one'])
  assert.equal(await register.read(client, ''), 'mine')
  assert.match(
    source,
    /^ {4}\/\/ {3}write: \(client, key, value\) => client\.put\(`\/notes\/\$\{key\}`, \{ body: value \}\),$/m,
  )
  const uncommented = source.replace(/^( {4})\/\/ /gm, '$1')
  assert.equal((await proofOf(uncommented)).registers!.length, 2)
})

it('a draft of an app of which nothing is found again says what to write', async () => {
  const { text: source, drafted } = draftProof({ paths: {} }, [], 'http://127.0.0.1:3000')
  assert.equal(drafted, 0)
  const proof = await proofOf(source)
  assert.throws(() => checkProof(proof, 'prove.ts'), /Add registers/)
})
