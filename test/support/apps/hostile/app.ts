import { EventEmitter } from 'node:events'
import {
  cron,
  defineApp,
  defineCalls,
  defineEvent,
  defineIndex,
  defineJob,
  defineModule,
  handle,
  html,
  noRetry,
  on,
  RungError,
  warm,
} from 'rung'
import { Type } from 'typebox'
import { hostile } from '../../hostile.ts'

/** An app whose code throws, rejects with and returns what nobody should: `?value=` names which. */
const Value = Type.Object({ value: Type.String() })
const valueIn = (request: { query: unknown }) => hostile[(request.query as { value: string }).value]!()
const make = (name: string) => hostile[name]!()

const once = { attempts: 1 }
const rejects = defineJob('hostile.rejects', Value, once)
const throws = defineJob('hostile.throws', Value, { attempts: 2, backoff: { base: 1, max: 1 } })
const gone = defineJob('hostile.no-retry', Value, { attempts: 100 })
const reports = defineJob('hostile.reports', Value, { attempts: 1, keep: true })
const Happened = defineEvent('hostile.happened', Value)
const keyed = defineJob('hostile.keyed', Value, {
  key: ({ value }) => {
    throw make(value)
  },
})
const notes = defineIndex('notes', { language: 'simple', fields: { text: {} } })

const helperCalls = defineCalls('helper', {
  throws: { input: Value, output: Type.Any() },
  returns: { input: Value, output: Type.Any() },
})

const helper = defineModule({
  name: 'helper',
  owner: 'tests',
  exposes: helperCalls,
  calls: () => ({
    throws: ({ value }) => {
      throw make(value)
    },
    returns: ({ value }) => make(value) as never,
  }),
})

const hooks = [
  'onRequest',
  'preParsing',
  'preValidation',
  'preHandler',
  'preSerialization',
  'onSend',
  'onResponse',
] as const

const main = defineModule({
  name: 'hostile',
  owner: 'tests',
  uses: { helper: helperCalls },

  identify: () => (request) => {
    if (request.headers['x-identify'] === undefined) return undefined
    throw make(request.headers['x-identify'] as string)
  },

  routes(http, { data, cache, calls, mail, files, search, log }) {
    http.get('/alive', async () => ({ alive: true }))
    http.post('/work', async ({ query }) => {
      const { value } = query as { value: string }
      await data.write(async (tx) => {
        for (const job of [rejects, throws, gone, reports]) tx.enqueue(job, { value })
        tx.publish(Happened, { value })
      })
      return {}
    })
    http.get('/dead', () =>
      data.pool
        .query(`select name, payload ->> 'value' as value, error, failures from rung.job where dead_at is not null and name <> 'hostile.reports'
        and error <> '' order by id`)
        .then(({ rows }) => rows),
    )
    http.get('/throws', () => {
      throw undefined
    })
    http.get('/route/throws', (request) => {
      throw valueIn(request)
    })
    http.get('/route/rejects', async (request) => {
      throw valueIn(request)
    })
    http.get('/route/returns', async (request) => valueIn(request) as never)
    http.get('/route/sends', (request, reply) => {
      void reply.send(valueIn(request) as never)
    })
    http.get('/route/facts', async (request) => {
      throw new RungError('HTTP_CONFLICT', 'The facts are odd.', { facts: { odd: valueIn(request) } })
    })
    http.get('/route/cause', async (request) => {
      throw new RungError('HTTP_CONFLICT', 'The cause is odd.', { cause: valueIn(request) })
    })
    http.get(
      '/route/schema',
      { schema: { response: { 200: Type.Object({ n: Type.Integer() }) } } },
      async (request) => valueIn(request) as never,
    )
    http.post('/route/idempotent', { config: { idempotency: 'optional' } }, async (request) => {
      await data.write(() => {
        throw valueIn(request)
      })
    })
    http.post(
      '/route/idempotent-returns',
      { config: { idempotency: 'optional' } },
      async (request) => data.write(() => valueIn(request)) as never,
    )
    http.post(
      '/route/login',
      {
        config: {
          login: (request) => {
            throw valueIn(request)
          },
        },
      },
      async () => ({}),
    )
    http.get('/route/kept', { config: { cache: { ttl: '1s', vary: ['x-any'], tags: [] } } }, async (request) => {
      throw valueIn(request)
    })
    http.get(
      '/route/kept-returns',
      { config: { cache: { ttl: '1s', tags: [] } } },
      async (request) => valueIn(request) as never,
    )
    for (const name of hooks) {
      const hook = async (request: { query: unknown }) => {
        throw valueIn(request)
      }
      http.get(`/hook/${name}`, { [name]: hook } as never, async () => ({}))
    }
    http.get('/data/write', async (request) =>
      data.write(async (tx) => {
        await tx`select 1`
        throw valueIn(request)
      }),
    )
    http.get('/data/read', async (request) =>
      data.read(async (sql) => {
        await sql`select 1`
        throw valueIn(request)
      }),
    )
    http.get('/data/returns', async (request) =>
      data.write(async (tx) => {
        await tx`select 1`
        return valueIn(request) as never
      }),
    )
    http.get('/data/binds', async (request) => data.read((sql) => sql`select ${valueIn(request) as never}::text as it`))
    const failing = data.batch(async (_sql, [value]: readonly string[]) => {
      throw make(value!)
    })
    http.get('/data/batch', (request) => failing((request.query as { value: string }).value) as never)
    http.get('/cache/throws', async (request) =>
      cache.get('throws', { ttl: '1s' }, () => {
        throw valueIn(request)
      }),
    )
    http.get('/cache/rejects', async (request) =>
      cache.get('rejects', { ttl: '1s', grace: '1s', errorTtl: 5 }, () => Promise.reject(valueIn(request))),
    )
    http.get('/cache/returns', async (request) =>
      cache.get(
        `returns ${(request.query as { value: string }).value}`,
        { ttl: '1s' },
        () => valueIn(request) as never,
      ),
    )
    http.get('/cache/tags', async (request) =>
      cache.get(
        'tags',
        {
          ttl: '1s',
          tags: () => {
            throw valueIn(request)
          },
        },
        () => 1,
      ),
    )
    http.get('/cache/many', async (request) =>
      cache.getMany([1, 2], { ttl: '1s', key: (id) => `many:${id}` }, () => valueIn(request) as never),
    )
    http.get('/cache/invalidates', async (request) => cache.invalidate([valueIn(request) as never]) as never)
    http.get('/call/throws', async (request) => calls.helper.throws(request.query as never))
    http.get('/call/returns', async (request) => calls.helper.returns(request.query as never))
    http.get(
      '/mail',
      async (request) =>
        mail.send({
          to: valueIn(request) as never,
          subject: valueIn(request) as never,
          text: valueIn(request) as never,
          html: html`x`,
        }) as never,
    )
    http.get(
      '/files',
      async (request) =>
        files.put(
          'a.txt',
          (async function* () {
            yield 'x'
            throw valueIn(request)
          })() as never,
        ) as never,
    )
    http.get(
      '/search',
      async (request) =>
        search.rebuild(notes, async function* () {
          yield []
          throw valueIn(request)
        }) as never,
    )
    http.get('/log', async (request) => {
      log.error({ err: valueIn(request) }, 'a line')
      return {}
    })
    http.get('/stray/promise', async (request) => {
      void Promise.reject(valueIn(request))
      return {}
    })
    http.get('/stray/timer', async (request) => {
      setTimeout(() => {
        throw valueIn(request)
      }, 1)
      return {}
    })
    http.get('/stray/immediate', async (request) => {
      setImmediate(() => {
        throw valueIn(request)
      })
      return {}
    })
    http.get('/stray/microtask', async (request) => {
      queueMicrotask(() => {
        throw valueIn(request)
      })
      return {}
    })
    http.get('/stray/tick', async (request) => {
      process.nextTick(() => {
        throw valueIn(request)
      })
      return {}
    })
    http.get('/stray/event', async (request) => {
      setImmediate(() => new EventEmitter().emit('error', valueIn(request)))
      return {}
    })
  },

  work: () => [
    handle(rejects, ({ value }) => Promise.reject(make(value))),
    handle(throws, ({ value }) => {
      throw make(value)
    }),
    handle(gone, ({ value }) => {
      throw noRetry(make(value))
    }),
    handle(reports, ({ value }, run) => {
      run.progress(make(value) as never, make(value) as never)
      return make(value)
    }),
    handle(keyed, () => {}),
    on(
      Happened,
      ({ payload }) => {
        throw make(payload.value)
      },
      once,
    ),
    ...Object.keys(hostile).map((value) => cron('* * * * * *', keyed, { value }, { name: value })),
  ],

  warm: () =>
    Object.keys(hostile).flatMap((value) => [
      warm(`list of ${value}`, () => {
        throw make(value)
      }),
      warm(`returns ${value}`, () => make(value) as never),
      warm(`load of ${value}`, [value], () => {
        throw make(value)
      }),
      warm(`path of ${value}`, [make(value) as never]),
    ]),
})

export default defineApp({
  name: 'hostile',
  modules: [helper, main],
  limits: { address: false },
  http: {
    requestTimeout: '2s',
    formatProblem(problem, { query }) {
      const { format } = query as { format?: string }
      if (format === undefined) return problem
      if (format.startsWith('returns ')) return make(format.slice(8)) as never
      throw make(format)
    },
  },
})
