import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it, test } from 'node:test'
import { defineApp, defineModule } from 'rung'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import till from '../../support/apps/till/app.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

let postgres: TestPostgres
let running: Running
before(async () => {
  postgres = await testPostgres()
  running = await bootForTest(till, postgres)
})
after(async () => {
  await running?.stop()
  await postgres?.stop()
})

interface Asked {
  key?: string | undefined
  idempotencyKey?: string | undefined
  user?: string
  method?: string
  headers?: Record<string, string>
  body?: string
  signal?: AbortSignal
}

async function ask(route: string, { key = randomUUID(), user = 'one', ...more }: Asked = {}) {
  const idempotencyKey = 'idempotencyKey' in more ? more.idempotencyKey : `"${key}"`
  const response = await fetch(running.url + route, {
    method: more.method ?? 'POST',
    body: more.method ? null : (more.body ?? JSON.stringify({ key })),
    headers: {
      ...(!more.method && { 'content-type': 'application/json' }),
      ...(user && { authorization: `User ${user}` }),
      ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }),
      ...more.headers,
    },
    ...(more.signal && { signal: more.signal }),
  })
  const bytes = Buffer.from(await response.arrayBuffer()).toString()
  const { status, headers } = response
  return {
    status,
    headers,
    bytes,
    code: status >= 400 ? JSON.parse(bytes).code : undefined,
    replayed: headers.get('idempotency-replayed') === 'true',
    kept: [status, bytes, headers.get('content-type'), headers.get('location'), headers.get('content-length')],
  }
}

type Answer = Awaited<ReturnType<typeof ask>>

async function effects(key: string, kind?: string): Promise<number> {
  const { pool } = running.data.forModule('till')
  const { rowCount } = await pool.query('select from till.effect where key = $1 and ($2::text is null or kind = $2)', [
    key,
    kind ?? null,
  ])
  return rowCount ?? 0
}

describe('a key', () => {
  it('is asked for where it is required', async () => {
    const key = randomUUID()
    const { status, code } = await ask('/payments', { key, idempotencyKey: undefined })
    assert.deepEqual([status, code], [400, 'IDEMPOTENCY_KEY_MISSING'])
    assert.equal(await effects(key), 0)
  })

  it('may be left out where it is optional', async () => {
    const key = randomUUID()
    const answers = [1, 2].map(() => ask('/optional', { key, idempotencyKey: undefined }))
    assert.notEqual((await answers[0])!.bytes, (await answers[1])!.bytes)
    assert.equal(await effects(key), 2)
    const [first, again] = [await ask('/optional', { key }), await ask('/optional', { key })]
    assert.deepEqual(again.kept, first.kept)
    assert.equal(await effects(key), 3)
  })

  for (const malformed of ['', '"', '"a', 'a"b', '""', '"a", "b"', 'a,b', 'a b', `"${'x'.repeat(256)}"`, '"ü"']) {
    it(`is refused as ${JSON.stringify(malformed).slice(0, 20)}`, async () => {
      const headers = { 'idempotency-key': Buffer.from(malformed).toString('latin1') }
      const { status, code } = await ask('/payments', { idempotencyKey: undefined, headers })
      assert.deepEqual([status, code], [400, 'IDEMPOTENCY_KEY_INVALID'])
    })
  }

  it('is the same with and without quotes', async () => {
    const key = randomUUID()
    const first = await ask('/payments', { key })
    assert.deepEqual((await ask('/payments', { key, idempotencyKey: key })).kept, first.kept)
  })

  it('belongs to its sender and its route', async () => {
    const key = randomUUID()
    const answers = [
      await ask('/payments', { key }),
      await ask('/payments', { key, user: 'two' }),
      await ask('/payments', { key, user: '' }),
      await ask('/payments', { key, user: '', headers: { authorization: 'Other x' } }),
      await ask('/optional', { key }),
    ]
    assert.deepEqual(
      answers.map(({ replayed }) => replayed),
      [false, false, false, false, false],
    )
    assert.equal(await effects(key, 'first'), 4)
  })

  it('is the same for a sender without a name whose cookies have changed', async () => {
    const key = randomUUID()
    const first = await ask('/payments', { key, user: '' })
    const position = first.headers.getSetCookie().map((cookie) => cookie.split(';')[0]!)
    assert.ok(position.length > 0, 'the answer itself has set one')
    for (const cookie of [...position, `${position[0]}; _ga=1`, 'theme=dark']) {
      const again = await ask('/payments', { key, user: '', headers: { cookie } })
      assert.deepEqual([again.replayed, again.kept], [true, first.kept], cookie)
    }
    assert.equal(await effects(key, 'first'), 1)
  })

  it('is not used while it cannot be found out who asks: it would not be theirs the next time', async () => {
    const key = randomUUID()
    const away = await ask('/payments', { key, headers: { 'x-identify': 'away' } })
    assert.deepEqual([away.status, away.code], [503, 'DATA_UNAVAILABLE'])
    const [first, second] = [await ask('/payments', { key }), await ask('/payments', { key })]
    assert.deepEqual([first.replayed, second.replayed], [false, true])
    assert.equal(await effects(key, 'first'), 1)
    const other = await ask('/payments', { key, headers: { 'x-identify': 'refused' } })
    assert.deepEqual([other.status, other.replayed], [201, false], 'a token that is no good is nobody')
  })

  it('belongs to its payload: body, path and query', async () => {
    const key = randomUUID()
    await ask('/fails/201', { key })
    for (const [route, body] of [
      ['/fails/201', JSON.stringify({ key: 'other' })],
      ['/fails/202', JSON.stringify({ key })],
      ['/fails/201?q', JSON.stringify({ key })],
    ] as const) {
      const { status, code } = await ask(route, { key, body })
      assert.deepEqual([status, code], [422, 'IDEMPOTENCY_PAYLOAD'])
    }
    assert.equal(await effects(key), 1)
  })

  it('is not used up by a request that is not valid', async () => {
    const key = randomUUID()
    assert.equal((await ask('/payments', { key, body: '{}' })).code, 'HTTP_VALIDATION')
    assert.equal((await ask('/payments', { key, body: '{' })).status, 400)
    assert.equal((await ask('/payments', { key })).status, 201)
  })
})

describe('an answer', () => {
  it('comes again byte for byte, and says so', async () => {
    const key = randomUUID()
    const first = await ask('/payments', { key })
    const again = await ask('/payments', { key })
    assert.deepEqual([first.status, first.replayed], [201, false])
    assert.deepEqual(again.kept, first.kept)
    assert.equal(again.replayed, true)
    assert.match(again.headers.get('location') ?? '', /^\/payments\/\d+$/)
    assert.notEqual(again.headers.get('x-request-id'), first.headers.get('x-request-id'))
    assert.equal(await effects(key, 'first'), 1)
    assert.equal(await effects(key, 'second'), 1)
  })

  it('comes again without a body', async () => {
    const key = randomUUID()
    const [first, again] = [
      await ask('/payments/1', { key, method: 'DELETE' }),
      await ask('/payments/1', { key, method: 'DELETE' }),
    ]
    assert.equal(first.status, 204)
    assert.deepEqual(again.kept, first.kept)
    assert.equal(again.replayed, true)
  })

  it('may be to a request without a body', async () => {
    const key = randomUUID()
    const bare = { key, body: '' }
    assert.deepEqual((await ask('/empty', bare)).kept, (await ask('/empty', bare)).kept)
  })

  it('is kept where the handler refuses (4xx)', async () => {
    const key = randomUUID()
    const [first, again] = [await ask('/fails/409', { key }), await ask('/fails/409', { key })]
    assert.equal(first.status, 409)
    assert.deepEqual(again.kept, first.kept)
    assert.equal(await effects(key), 1)
  })

  for (const status of [401, 429, 500, 503]) {
    it(`of ${status} is not kept: the next try goes on, and what was committed does not happen again`, async () => {
      const key = randomUUID()
      assert.equal((await ask(`/fails/${status}`, { key })).status, status)
      const again = await ask(`/fails/${status}`, { key })
      assert.deepEqual([again.status, again.replayed], [200, false])
      assert.deepEqual((await ask(`/fails/${status}`, { key })).kept, again.kept)
      assert.equal(await effects(key), 1)
    })
  }

  it('that streams is refused', async () => {
    const { status, code } = await ask('/stream')
    assert.deepEqual([status, code], [500, 'IDEMPOTENCY_STREAM'])
  })
})

test('the OpenAPI document shows the header where it is taken', async () => {
  const { paths } = (await (await fetch(`${running.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { parameters?: { name: string; required: boolean }[] }>>
  }
  const shown = (path: string) =>
    Object.values(paths[path] ?? {})[0]?.parameters?.map(({ name, required }) => [name, required])
  assert.deepEqual(shown('/payments'), [['Idempotency-Key', true]])
  assert.deepEqual(shown('/optional'), [['Idempotency-Key', false]])
  assert.equal(shown('/hello'), undefined)
})

describe('a request with a key', () => {
  it('is refused while the first one runs, with a time to come again', async () => {
    const key = randomUUID()
    const asked = () => ask('/slow/1000', { key }) // longer than the lease: it is extended
    const both = await Promise.all([asked(), asked()])
    const [first, refused] = both.sort((a, b) => a.status - b.status) as [Answer, Answer]
    assert.deepEqual([first.status, refused.status], [200, 409])
    assert.equal(refused.code, 'IDEMPOTENCY_IN_FLIGHT')
    assert.equal(refused.headers.get('retry-after'), '1')
    assert.deepEqual((await asked()).kept, first.kept)
    assert.equal(await effects(key), 1)
  })

  it('of many that race has one effect and one answer', async () => {
    for (let round = 0; round < 20; round += 1) {
      const key = randomUUID()
      const settled = await Promise.all(
        Array.from({ length: 5 }, () =>
          until(async () => {
            const one = await ask('/payments', { key })
            return one.status !== 409 && one
          }, 'it is answered'),
        ),
      )
      assert.equal(new Set(settled.map(({ kept }) => JSON.stringify(kept))).size, 1)
      assert.equal(settled.filter(({ replayed }) => !replayed).length, 1)
      assert.equal(await effects(key, 'first'), 1)
    }
  })

  it('whose client has gone can be sent again', async () => {
    const gone = new AbortController()
    const { key, first } = await until(async () => {
      const key = randomUUID()
      const first = ask('/slow/300', { key, signal: gone.signal })
      // Unless the second to be sent has come first, and is answered.
      if ((await ask('/slow/300', { key })).status === 409) return { key, first }
      await first
    }, 'the first one is there')
    gone.abort()
    await assert.rejects(first)
    const again = await until(async () => {
      const one = await ask('/slow/300', { key })
      return one.status !== 409 && one
    }, 'its lease has ended')
    assert.equal(again.status, 200)
    assert.equal(await effects(key), 1)
  })

  it('that takes another way when it is repeated is refused, and nothing happens twice', async () => {
    for (const end of ['a', 'b', 'c']) {
      const key = `${randomUUID()}${end}`
      assert.equal((await ask('/diverges', { key })).status, 500)
      for (const _ of [1, 2]) {
        const { code, headers } = await ask('/diverges', { key })
        assert.equal(code, 'IDEMPOTENCY_DIVERGED')
        assert.equal(headers.get('content-type'), 'application/problem+json; charset=utf-8', end)
      }
      assert.equal(await effects(key), 1)
    }
  })

  it('is refused at a second write without a name, which a repetition could not tell from the first', async () => {
    const key = randomUUID()
    for (const _ of [1, 2]) assert.equal((await ask('/unnamed', { key })).code, 'IDEMPOTENCY_STEP_NAME')
    assert.deepEqual([await effects(key, 'one'), await effects(key, 'two')], [1, 0])
  })

  it('commits nothing that could not be given again', async () => {
    const key = randomUUID()
    assert.equal((await ask('/unkeepable', { key })).code, 'IDEMPOTENCY_VALUE')
    assert.equal(await effects(key), 0)
  })
})

describe('a route', () => {
  for (const [what, method, idempotency] of [
    ['that only reads', 'GET', 'required'],
    ['with another word', 'POST', 'yes'],
  ] as const) {
    it(`${what} cannot have it`, async () => {
      const module = defineModule({
        name: 'm',
        owner: 'tests',
        routes: (http) =>
          void http.route({
            method,
            url: '/',
            config: { idempotency: idempotency as 'required' },
            handler: async () => ({}),
          }),
      })
      await assert.rejects(bootForTest(defineApp({ name: 'a', modules: [module] }), postgres), { code: 'APP_INVALID' })
    })
  }
})
