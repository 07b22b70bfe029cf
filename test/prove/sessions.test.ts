import assert from 'node:assert/strict'
import { it } from 'node:test'
import { checkEffects } from '../../src/history/effects.ts'
import { checkLostWrites } from '../../src/history/lost.ts'
import { createRecorder, type Recorder } from '../../src/history/recorder.ts'
import type { Answer } from '../../src/load/connections.ts'
import type { Visitor } from '../../src/load/visitor.ts'
import type { ProofUser } from '../../src/prove/client.ts'
import type { Proof } from '../../src/prove/proof.ts'
import { lastLook, proofSessions } from '../../src/prove/sessions.ts'

const users: ProofUser[] = [{}]

interface How {
  ending?: AbortController
  random?: number
  recorder?: Recorder
  /** What the app answers with 200. */
  bodyOf?(request: string): string
}

/** What the last look does with an app that answers so: `POST /comments 503`. It does not wait between its tries. */
async function looking(
  proof: Omit<Proof, 'users'>,
  statusOf: (request: string) => number,
  { ending, random = 0, bodyOf = () => '[]', recorder = createRecorder() }: How = {},
) {
  const mistakes: unknown[] = []
  const sessions = proofSessions({ users: async () => users, ...proof }, recorder, {
    over: (ending ?? new AbortController()).signal,
    onMistake: (error) => mistakes.push(error),
  })
  const asked: string[] = []
  const visitor: Visitor<readonly ProofUser[]> = {
    ...{ number: 0, random: () => random, data: users, pick: (items) => items[0]!, check() {}, think: async () => {} },
    async request(method, path): Promise<Answer> {
      asked.push(`${method} ${path}`)
      const header = (name: string) => (name === 'content-type' ? 'application/json' : undefined)
      const [status, body] = [statusOf(`${method} ${path}`), bodyOf(`${method} ${path}`)]
      return { status, body: Buffer.from(body), header, json: () => JSON.parse(body) }
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

it('the last look has seen a value before it replaces it, and waits until a replica shows it', async () => {
  const registers: NonNullable<Proof['registers']> = [
    {
      name: 'note',
      keys: () => ['7'],
      write: (client, key, text) => client.put(`/notes/${key}`, { text }),
      read: (client, key) => client.get(`/notes/${key}`),
    },
  ]
  const value = { kind: 'write', session: 'anna', key: 'note 7' } as const
  async function lookAfter(shownAfter: number) {
    const recorder = createRecorder()
    for (const [n, text] of ['a1', 'a2'].entries()) {
      recorder.begin({ ...value, value: text }).ok()
      if (n === 0) recorder.begin({ ...value, kind: 'read' }).ok({ value: text })
    }
    let [reads, written] = [0, '']
    const looked = await looking({ registers }, () => 200, {
      recorder,
      bodyOf(request) {
        if (request.startsWith('PUT')) written = 'v1'
        else reads += 1
        return JSON.stringify(written || (reads > shownAfter ? 'a2' : 'a1'))
      },
    })
    return { ...looked, lost: checkLostWrites(looked.operations) }
  }
  const late = await lookAfter(3)
  assert.equal(late.lost.count, 0, 'it came in the end')
  assert.deepEqual(late.asked.slice(-3), ['GET /notes/7', 'PUT /notes/7', 'GET /notes/7'])
  const lost = await lookAfter(Number.POSITIVE_INFINITY)
  assert.match(lost.lost.anomalies[0]!.text, /^a2 of note 7 was there by/)
})

it('some requests with a key are sent again although they succeeded', async () => {
  const once: Proof['once'] = [
    { name: 'order', send: (client, id) => client.post('/orders', { id }), effects: (client) => client.get('/orders') },
  ]
  let count = 0
  const bodyOf = (request: string) => {
    if (request.startsWith('GET')) return '["o0n1","o0n1"]'
    count += 1
    return String(count)
  }
  const { asked, operations } = await looking({ once }, () => 200, { random: 0.9, bodyOf })
  assert.deepEqual(asked, ['POST /orders', 'POST /orders', 'GET /orders'])
  assert.deepEqual(
    operations.slice(0, 2).map(({ kind, key, value }) => [kind, key, value]),
    [
      ['send', 'o0n1', '1'],
      ['send', 'o0n1', '2'],
    ],
  )
  assert.equal(checkEffects(operations).count, 2, 'another answer, and another effect')
  const accounts: Proof['accounts'] = {
    ...{ name: 'stock', plan: () => ({ cups: 1 }), levels: async (client) => ({ cups: await client.get('/stock') }) },
    change: (client, amounts) => client.post('/stock', amounts),
  }
  const changed = await looking({ accounts }, () => 200, { random: 0.9 })
  assert.deepEqual(changed.asked, ['POST /stock', 'POST /stock', 'GET /stock'])
})

it('no request is sent once the proof is over', async () => {
  const ending = new AbortController()
  const { asked, mistakes } = await looking(
    { collections: comments, pages: ['/'] },
    () => {
      ending.abort()
      return 503
    },
    { ending },
  )
  assert.deepEqual([asked, mistakes], [['POST /comments/7'], []])
})
