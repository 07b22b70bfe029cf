import type { Recorder } from '../../../src/history.ts'
import { type Random, seededRandom, shuffled } from '../../../src/kernel/random.ts'
import { createData, type Data } from '../../../src/primitives/data/data.ts'
import type { SqlTag } from '../../../src/primitives/data/sql.ts'
import { openPostgres } from '../../support/data.ts'
import type { Workload } from '../workload.ts'

const [clients, steps] = [6, 15]
const empty = 'empty'
const accounts = ['a', 'b', 'c']
const initial = Object.fromEntries(accounts.map((name) => [name, 20]))

/** Clients move amounts between accounts, replace a value that they have read, and add lines in transactions that fail in several ways. */
const ledger: Workload = {
  promises: ['acknowledged-writes', 'no-lost-update', 'conservation'],
  options: { conservation: { initial, least: 0, closed: true } },
  async open(postgres) {
    const database = await openPostgres(postgres, { connectionsMax: { read: 4, write: clients } })
    const data = createData(database).forModule('ledger')
    await data.pool.query(`create table account (book int, name text, level int, primary key (book, name));
      create table note (book int primary key, value text);
      create table line (book int, name text, primary key (book, name))`)
    return {
      async run(book, recorder) {
        await data.write(async (tx) => {
          await tx`insert into account select ${book}, key, value::int from json_each_text(${JSON.stringify(initial)})`
          await tx`insert into note values (${book}, ${empty})`
        })
        const parts = { book, data, recorder, random: seededRandom(book) }
        await Promise.all(Array.from({ length: clients }, (_, n) => client(`client ${n}`, parts)))
        await lookAtAll(parts)
      },
      close: () => database.close(),
    }
  },
}
export default ledger

interface Parts {
  book: number
  data: Data
  recorder: Recorder
  random: Random
}

async function client(session: string, parts: Parts): Promise<void> {
  const { random } = parts
  const does = [move, move, replace, add, addAfterAFailure, addInTwoWrites]
  for (let step = 1; step <= steps; step += 1) {
    const one = does[Math.floor(random() * does.length)]!
    await one({ ...parts, session, value: `${session}, ${step}` })
  }
}

interface Step extends Parts {
  session: string
  /** Unique in the book. */
  value: string
}

/** Amounts from one account to another, by reading both levels and writing what comes out. */
function move({ book, data, recorder, random, session }: Step): Promise<void> {
  const [from, to] = shuffled(accounts, random) as [string, string]
  const amount = 1 + Math.floor(random() * 10)
  const moving = recorder.begin({ kind: 'change', session, key: 'book', amounts: { [from]: -amount, [to]: amount } })
  const moved = data.write(
    async (tx) => {
      const rows = await tx<{ name: string; level: number }>`select name, level from account where book = ${book}`
      const levelOf = (name: string) => rows.find((row) => row.name === name)!.level
      if (levelOf(from) < amount) throw new Error('there is not enough')
      await tx`update account set level = ${levelOf(from) - amount} where book = ${book} and name = ${from}`
      await tx`update account set level = ${levelOf(to) + amount} where book = ${book} and name = ${to}`
    },
    { isolation: 'serializable', retries: 10 },
  )
  return moved.then(() => moving.ok(), moving.fail)
}

/** The note, if it is still what was read. */
async function replace({ book, data, recorder, session, value }: Step): Promise<void> {
  const find = async (sql: SqlTag) => {
    const [row] = await sql<{ value: string }>`select value from note where book = ${book}`
    return row?.value ?? empty
  }
  const reading = recorder.begin({ kind: 'read', session, key: 'note', fresh: true })
  const was = await data.write(find)
  const basis = was === empty ? null : was
  reading.ok({ value: basis as string })
  const writing = recorder.begin({ kind: 'write', session, key: 'note', value, basedOn: basis })
  const written = data.write(
    async (tx) => {
      if ((await find(tx)) !== was) throw new Error('somebody was faster')
      await tx`update note set value = ${value} where book = ${book}`
    },
    { isolation: 'repeatable read', retries: 0 },
  )
  await written.then(() => writing.ok(), writing.fail)
}

const insert = (tx: SqlTag, book: number, value: string) => tx`insert into line values (${book}, ${value})`

function add({ book, data, recorder, session, value }: Step): Promise<void> {
  const adding = recorder.begin({ kind: 'add', session, key: 'lines', value })
  return data.write((tx) => insert(tx, book, value)).then(() => adding.ok(), adding.fail)
}

/** A statement fails, and its error is swallowed: nothing can be committed. */
function addAfterAFailure({ book, data, recorder, session, value }: Step): Promise<void> {
  const adding = recorder.begin({ kind: 'add', session, key: 'lines', value })
  const added = data.write(async (tx) => {
    await insert(tx, book, value)
    await Promise.allSettled([insert(tx, book, value)])
  })
  return added.then(() => adding.ok(), adding.fail)
}

/** The inner write belongs to the outer one, which fails now and then. */
function addInTwoWrites({ book, data, recorder, random, session, value }: Step): Promise<void> {
  const fails = random() < 0.5
  const adding = ['first', 'second'].map((which) =>
    recorder.begin({ kind: 'add', session, key: 'lines', value: `${value}, ${which}` }),
  )
  const added = data.write(async (tx) => {
    await insert(tx, book, `${value}, first`)
    await data.write((inner) => insert(inner, book, `${value}, second`))
    if (fails) throw new Error('after both')
  })
  return added.then(
    () => {
      for (const one of adding) one.ok()
    },
    (error) => {
      for (const one of adding) one.fail(error)
    },
  )
}

async function lookAtAll({ book, data, recorder }: Parts): Promise<void> {
  const looking = { session: 'observer', fresh: true }
  const levels = recorder.begin({ ...looking, kind: 'levels', key: 'book' })
  const rows = await data.write(
    (tx) => tx<{ name: string; level: number }>`select name, level from account where book = ${book}`,
  )
  levels.ok({ amounts: Object.fromEntries(rows.map(({ name, level }) => [name, level])) })
  const list = recorder.begin({ ...looking, kind: 'list', key: 'lines' })
  const lines = await data.write((tx) => tx<{ name: string }>`select name from line where book = ${book}`)
  list.ok({ values: lines.map(({ name }) => name) })
}
