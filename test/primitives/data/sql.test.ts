import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRungError } from '../../../src/kernel/errors.ts'
import { compile, makeTag, sql } from '../../../src/primitives/data/sql.ts'

test('values never become text', () => {
  const { text, values } = compile(sql`select * from t where a = ${"x' or true"} and b = ${null}`)
  assert.equal(text, 'select * from t where a = $1 and b = $2')
  assert.deepEqual(values, ["x' or true", null])
})

test('pieces nest, and places are numbered through', () => {
  const condition = sql`a = ${1} and b = ${2}`
  const { text, values } = compile(sql`select ${3} where ${condition} or ${condition} limit ${4}`)
  assert.equal(text, 'select $1 where a = $2 and b = $3 or a = $4 and b = $5 limit $6')
  assert.deepEqual(values, [3, 1, 2, 1, 2, 4])
})

test('one text, one name; another text, another name', () => {
  const statement = (n: number) => sql`select ${n}`
  assert.equal(compile(statement(1)).name, compile(statement(2)).name)
  assert.notEqual(compile(statement(1)).name, compile(sql`select  ${1}`).name)
})

test('identifiers are quoted, quotes doubled', () => {
  assert.equal(compile(sql`select * from ${sql.id('my schema', 'a"b')}`).text, 'select * from "my schema"."a""b"')
  for (const bad of ['', 'a\0b'])
    assert.throws(
      () => sql.id(bad),
      (error) => isRungError(error, 'DATA_STATEMENT'),
    )
})

test('lists are joined; an empty one is refused', () => {
  const { text, values } = compile(sql`in (${sql.join([1, sql`lower(${'A'})`, 3])})`)
  assert.equal(text, 'in ($1, lower($2), $3)')
  assert.deepEqual(values, [1, 'A', 3])
  assert.equal(compile(sql`${sql.join([sql`a`, sql`b`], sql` and `)}`).text, 'a and b')
  assert.throws(
    () => sql.join([]),
    (error) => isRungError(error, 'DATA_STATEMENT'),
  )
})

test('nothing is a piece too', () => {
  assert.equal(compile(sql`select 1${sql.empty}`).text, 'select 1')
})

test('an array is one value', () => {
  const { text, values } = compile(sql`= any(${[1, 2]})`)
  assert.equal(text, '= any($1)')
  assert.deepEqual(values, [[1, 2]])
})

test('a piece without a connection does not run', async () => {
  await assert.rejects(
    async () => await sql`select 1`,
    (error) => isRungError(error, 'DATA_STATEMENT'),
  )
})

test('a statement runs once, however often it is awaited', async () => {
  let runs = 0
  const tag = makeTag(async () => {
    runs += 1
    return [{ n: 1 }, { n: 2 }]
  })
  const statement = tag<{ n: number }>`select n`
  assert.equal(runs, 0)
  assert.deepEqual(await statement, [{ n: 1 }, { n: 2 }])
  assert.deepEqual(await statement.first(), { n: 1 })
  assert.equal(runs, 1)
})

test('a place that gets a value now may get a piece the next time', () => {
  const statement = (label: unknown) => compile(sql`values (${label})`)
  assert.deepEqual(statement('x').values, ['x'])
  assert.deepEqual([statement(sql`default`).text, statement(sql`default`).values], ['values (default)', []])
  assert.deepEqual(statement('y').values, ['y'])
})
