import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createRecorder } from '../../src/history/recorder.ts'
import type { Answer } from '../../src/load/connections.ts'
import type { Visitor } from '../../src/load/visitor.ts'
import type { ProofUser } from '../../src/prove/client.ts'
import type { Proof } from '../../src/prove/proof.ts'
import { lastLook, proofSessions } from '../../src/prove/sessions.ts'

const users: ProofUser[] = [{}]

/** What the last look does with an app that answers so: `POST /comments 503`. It does not wait between its tries. */
async function looking(proof: Omit<Proof, 'users'>, statusOf: (request: string) => number, ending?: AbortController) {
  const recorder = createRecorder()
  const mistakes: unknown[] = []
  const sessions = proofSessions({ users: async () => users, ...proof }, recorder, {
    over: (ending ?? new AbortController()).signal,
    onMistake: (error) => mistakes.push(error),
  })
  const asked: string[] = []
  const visitor: Visitor<readonly ProofUser[]> = {
    ...{ number: 0, random: () => 0, data: users, pick: (items) => items[0]!, check() {}, think: async () => {} },
    async request(method, path): Promise<Answer> {
      asked.push(`${method} ${path}`)
      const header = (name: string) => (name === 'content-type' ? 'application/json' : undefined)
      return { status: statusOf(`${method} ${path}`), body: Buffer.from('[]'), header, json: () => JSON.parse('[]') }
    },
  }
  await sessions.last.run(visitor)
  return { operations: recorder.operations(), asked, mistakes }
}

const comments: Proof['collections'] = [
  {
    name: 'comments on',
    keys: () => ['7'],
    add: (client, key, text) => client.post(`/comments/${key}`, { text }),
    list: (client, key) => client.get(`/comments/${key}`),
  },
]

it('the last look writes before it reads, whatever the proof names, and opens all pages', async () => {
  const { asked } = await looking({ collections: comments, pages: ['/', '/about'] }, () => 200)
  assert.deepEqual(asked, ['POST /comments/7', 'GET /comments/7', 'GET /', 'GET /about'])
  const once: Proof['once'] = [
    { name: 'order', send: (client, id) => client.post('/orders', { id }), effects: (client) => client.get('/orders') },
  ]
  assert.deepEqual((await looking({ once }, () => 200)).asked, ['POST /orders', 'GET /orders'])
  const queue: Proof['queue'] = {
    name: 'mails',
    publish: (client, text) => client.post('/mails', { text }),
    effects: async (client) => [...(await client.get<string[]>('/mails')), 'm1'],
  }
  const mails = await looking({ queue }, () => 200)
  assert.deepEqual(mails.asked, ['POST /mails', 'GET /mails', 'GET /mails'], 'until it is worked off, and once more')
  assert.deepEqual(mails.operations.at(-1)!.values, ['m1'])
})

it('the last look asks again and again, and goes on to the next', async () => {
  const { operations } = await looking({ collections: comments, pages: ['/'] }, (request) =>
    request.startsWith('GET /comments') ? 500 : 200,
  )
  const lists = operations.filter(({ kind, fresh }) => kind === 'list' && fresh)
  assert.deepEqual([lists.length, new Set(lists.map(({ outcome }) => outcome))], [40, new Set(['info'])])
  assert.deepEqual(operations.at(-1)!.key, '/')
  assert.ok(operations.every(({ session }) => session === lastLook))
})

it('no request is sent once the proof is over', async () => {
  const ending = new AbortController()
  const { asked, mistakes } = await looking(
    { collections: comments, pages: ['/'] },
    () => {
      ending.abort()
      return 503
    },
    ending,
  )
  assert.deepEqual([asked, mistakes], [['POST /comments/7'], []])
})
