import { defineApp, defineCalls, defineEvent, defineModule, on } from 'rung'
import { Type } from 'typebox'

/** An app of three modules, one of which may have nodes of its own. Answers name the process that gave them. */

const Id = Type.Object({ id: Type.Integer() })
const Person = Type.Object({ name: Type.String(), version: Type.Integer(), by: Type.Integer() })
const Renamed = defineEvent('people.renamed', Type.Object({ id: Type.Integer(), version: Type.Integer() }))

const peopleCalls = defineCalls('people', {
  find: { input: Id, output: Type.Union([Person, Type.Null()]), read: true },
  kept: { input: Id, output: Type.Union([Person, Type.Null()]), read: true, ttl: '1h' },
  rename: { input: Type.Object({ id: Type.Integer(), name: Type.String() }), output: Type.Integer() },
})

const people = defineModule({
  name: 'people',
  owner: 'tests',
  migrations: new URL('./people/', import.meta.url),
  exposes: peopleCalls,
  calls: ({ data, cache }) => {
    const find = async ({ id }: { id: number }) => {
      const [row] = await data.read(
        (sql) => sql<{ name: string; version: number }>`select name, version from people.person where id = ${id}`,
      )
      return row ? { ...row, by: process.pid } : null
    }
    return {
      find,
      kept: ({ id }) => cache.get(`person:${id}`, { ttl: '1h', tags: [`person:${id}`] }, () => find({ id })),
      rename: ({ id, name }) =>
        data.write(async (tx) => {
          const [row] = await tx<{ version: number }>`insert into people.person values (${id}, ${name}, 1)
            on conflict (id) do update set name = excluded.name, version = people.person.version + 1 returning version`
          tx.invalidate([`person:${id}`])
          tx.publish(Renamed, { id, version: row!.version }, { key: id })
          return row!.version
        }),
    }
  },
  routes(http, { data }) {
    http.get('/people/:id', { schema: { params: Id } }, async (request, reply) => {
      const [row] = await data.read(
        (sql) => sql`select name, version from people.person where id = ${request.params.id}`,
      )
      return row ? { ...row, by: process.pid } : reply.status(404).send({})
    })
  },
})

const desk = defineModule({
  name: 'desk',
  owner: 'tests',
  migrations: new URL('./desk/', import.meta.url),
  uses: { people: peopleCalls },
  routes(http, { calls, data }) {
    const find = { schema: { params: Id } }
    http.get('/desk/:id', find, async (request) => ({
      person: await calls.people.find(request.params),
      at: process.pid,
    }))
    http.get('/kept/:id', find, async (request) => ({
      person: await calls.people.kept(request.params),
      at: process.pid,
    }))
    http.get('/cached/:id', { ...find, config: { cache: { ttl: '1h', tags: 'inherit' } } }, async (request) => ({
      person: await calls.people.kept(request.params),
    }))
    http.put(
      '/desk/:id/:name',
      { schema: { params: Type.Object({ id: Type.Integer(), name: Type.String() }) } },
      (request) => calls.people.rename(request.params).then((version) => ({ version })),
    )
    /** Needs nothing of the other modules. */
    http.post('/notes/:id', { schema: { params: Type.Object({ id: Type.String() }) } }, async (request, reply) => {
      await data.write((tx) => tx`insert into desk.note values (${request.params.id})`)
      return reply.status(201).send({ at: process.pid })
    })
    http.get('/people/desk', () => ({ at: process.pid }))
  },
})

const press = defineModule({
  name: 'press',
  owner: 'tests',
  migrations: new URL('./press/', import.meta.url),
  routes(http, { data }) {
    http.get('/press/:id', { schema: { params: Id } }, (request) =>
      data.read((sql) => sql`select version, by from press.told where person = ${request.params.id} order by version`),
    )
  },
  work: () => [
    on(Renamed, async ({ payload: { id, version } }, tx) => {
      await tx`insert into press.told values (${id}, ${version}, ${process.pid})`
    }),
  ],
})

export default defineApp({ name: 'guild', modules: [people, desk, press] })
