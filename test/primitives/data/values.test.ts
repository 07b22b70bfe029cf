import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { isRungError } from '../../../src/kernel/errors.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../../src/primitives/data/data.ts'
import { sql } from '../../../src/primitives/data/sql.ts'
import { openPostgres } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

const zones = ['UTC', 'Asia/Kathmandu', 'America/St_Johns']
const ownZone = process.env.TZ

/** Runs `body` as if the process stood there. */
async function inEachZone(body: (zone: string) => Promise<void>): Promise<void> {
  try {
    for (const zone of zones) {
      process.env.TZ = zone
      await body(zone)
    }
  } finally {
    if (ownZone === undefined) delete process.env.TZ
    else process.env.TZ = ownZone
  }
}

let postgres: TestPostgres
let database: Database
let data: Data
before(async () => {
  postgres = await testPostgres()
  database = await openPostgres(postgres)
  data = createData(database).forModule('shop')
  await data.pool.query(`
    create domain whole as bigint;
    create domain tags as text[];
    create type mood as enum ('fine', 'so so, "well"');
    create type pair as (a bigint, b text);
    create table store (j json, jb jsonb, jbs jsonb[], b bytea, d date, ts timestamp, tz timestamptz, t text, n int[], pt point)`)
})
after(async () => {
  await database.close()
  await postgres.stop()
})

/** What a statement of the server's own text gives, and the same bound again, as the server writes it. */
async function roundTrip(
  type: string,
  text: string,
  depth = 0,
): Promise<{ value: unknown; back: string; own: string }> {
  const name = sql.join(
    type.split(',').map((part) => sql.id(part)),
    sql`, `,
  )
  const [read] = await data.read(
    (tag) =>
      tag<{
        value: unknown
        own: string
      }>`select cast(${text}::text as ${name}) as value, cast(${text}::text as ${name})::text as own`,
  )
  const value = /jsonb?$/.test(type) ? asJson(read!.value, depth) : read!.value
  const [bound] = await data.read((tag) => tag<{ back: string }>`select cast(${value} as ${name})::text as back`)
  return { value: read!.value, own: read!.own, back: bound!.back }
}

/** JSON is bound by `sql.json`. */
function asJson(value: unknown, depth: number): unknown {
  if (value === null) return null
  return depth === 0 ? sql.json(value) : (value as unknown[]).map((item) => asJson(item, depth - 1))
}

const digits = (n: number) => fc.stringMatching(new RegExp(`^[1-9][0-9]{0,${n - 1}}$`))
const day = fc
  .date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T00:00:00Z'), noInvalidDate: true })
  .map((date) => date.toISOString())
const word = fc.string({ unit: 'binary', maxLength: 12 }).map((text) => text.replaceAll('\0', ''))
const int = (bits: number) => fc.bigInt(-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n).map(String)
const float = fc.double().map((n) => (Object.is(n, -0) ? '-0' : String(n)))
const plain = fc.nat(9_999).map(String)
const hex = (length: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`))
/** Its own null is read as null, as the one of Postgres is. */
const jsonText = fc
  .jsonValue()
  .filter((value) => value !== null)
  .map((value) => JSON.stringify(value))
const span = fc.tuple(fc.nat(500), fc.nat(500)).map(([from, more]) => [from, from + more + 1] as const)
const point = fc
  .tuple(fc.integer({ min: -999, max: 999 }), fc.integer({ min: -999, max: 999 }))
  .map(([x, y]) => `(${x},${y})`)

/** For each built-in type texts that the server takes. */
const texts: Record<string, fc.Arbitrary<string>> = {
  bool: fc.constantFrom('true', 'false'),
  bytea: hex(8).map((text) => `\\x${text}`),
  char: fc.constantFrom('a', '"', '\\', ','),
  name: word.map((text) => Array.from(text).slice(0, 10).join('')),
  int8: int(64),
  int2: int(16),
  int4: int(32),
  oid: fc.nat(2 ** 32 - 1).map(String),
  text: word,
  bpchar: word,
  varchar: word,
  json: jsonText,
  jsonb: jsonText.filter((text) => !text.includes('\\u0000')),
  xml: fc.constantFrom('<a>1, "2"</a>', '<b/>'),
  point,
  lseg: fc.tuple(point, point).map((ends) => `[${ends}]`),
  path: fc.tuple(point, point).map((ends) => `(${ends})`),
  box: fc.constantFrom('(3,4),(1,2)'),
  polygon: fc.tuple(point, point, point).map((ends) => `(${ends})`),
  line: fc.constantFrom('{1,2,3}'),
  circle: point.map((center) => `<${center},5>`),
  float4: fc.float().map((n) => (Object.is(n, -0) ? '-0' : String(n))),
  float8: float,
  numeric: fc.tuple(digits(40), digits(40)).map((parts) => parts.join('.')),
  money: plain,
  cidr: fc.constantFrom('10.0.0.0/8', '2001:db8::/32'),
  inet: fc.ipV4(),
  macaddr: hex(12),
  macaddr8: hex(16),
  date: fc.oneof(
    day.map((text) => text.slice(0, 10)),
    fc.constantFrom('infinity', '0044-03-15 BC', '5874897-12-31'),
  ),
  time: day.map((text) => text.slice(11, 23)),
  timetz: day.map((text) => `${text.slice(11, 23)}+05:45`),
  timestamp: fc.oneof(
    day.map((text) => `${text.slice(0, 19)}.123456`),
    fc.constantFrom('-infinity', '0044-03-15 12:00:00 BC'),
  ),
  timestamptz: fc.oneof(
    day,
    fc.constantFrom('infinity', '-infinity', '0044-03-15 12:00:00+00 BC', '12345-01-01 00:00:00+00'),
  ),
  interval: fc
    .tuple(
      fc.integer({ min: -50, max: 50 }),
      fc.integer({ min: -50, max: 50 }),
      fc.integer({ min: -(10 ** 9), max: 10 ** 9 }),
    )
    .map(([months, days, micros]) => `${months} months ${days} days ${micros} microseconds`),
  bit: fc.constantFrom('0', '1'),
  varbit: fc.stringMatching(/^[01]{1,20}$/),
  uuid: fc.uuid(),
  pg_lsn: fc.constantFrom('16/B374D848'),
  tsvector: fc.constantFrom(`'a':1 'b c':2`),
  tsquery: fc.constantFrom(`'a' & 'b c'`),
  jsonpath: fc.constantFrom('$."a"[*]'),
  int4range: span.map(([from, to]) => `[${from},${to})`),
  int8range: int(62).map((from) => `[${from},)`),
  numrange: span.map(([from, to]) => `[${from}.5,${to}.25]`),
  daterange: fc.constantFrom('[2026-01-31,2026-02-28)', 'empty'),
  tsrange: fc.constantFrom('["2026-01-31 00:00:00.000001","2026-02-28 12:00:00")'),
  tstzrange: fc.constantFrom('["2026-01-31 00:00:00.000001+05:45",)'),
  int4multirange: span.map(([from, to]) => `{[${from},${to})}`),
  int8multirange: int(62).map((from) => `{[${from},)}`),
  nummultirange: span.map(([from, to]) => `{[${from}.5,${to}.25]}`),
  datemultirange: fc.constantFrom('{[2026-01-31,2026-02-28)}', '{}'),
  tsmultirange: fc.constantFrom('{["2026-01-31 00:00:00.000001","2026-02-28 12:00:00")}'),
  tstzmultirange: fc.constantFrom('{["2026-01-31 00:00:00.000001+05:45",)}'),
  xid: plain,
  xid8: int(63).filter((text) => !text.startsWith('-')),
  cid: plain,
  tid: fc.constantFrom('(7,3)'),
  int2vector: fc.constantFrom('1 2'),
  oidvector: fc.constantFrom('1 2'),
  regclass: fc.constantFrom('pg_class'),
  regtype: fc.constantFrom('integer', '"char"'),
  regproc: fc.constantFrom('now'),
  regprocedure: fc.constantFrom('lower(text)'),
  regoper: fc.constantFrom('||/'),
  regoperator: fc.constantFrom('+(integer,integer)'),
  regconfig: fc.constantFrom('simple'),
  regdictionary: fc.constantFrom('simple'),
  regnamespace: fc.constantFrom('pg_catalog'),
  regrole: fc.constantFrom('app'),
  regcollation: fc.constantFrom('"C"'),
  refcursor: word,
  pg_snapshot: fc.constantFrom('10:20:10,14,15'),
  txid_snapshot: fc.constantFrom('10:20:10,14,15'),
  aclitem: fc.constantFrom('app=r/app'),
}

/** Their elements are bounded by another sign; the server has no input for the other one. */
const untested = new Set(['box', 'gtsvector'])

/** An error that says what to write is as good as the exact value. */
const says = (error: unknown) => isRungError(error) && /Select it as text/.test(error.message)

describe('a value of each built-in type, read and bound again, is what it was', () => {
  it('for all types of the server', async () => {
    const { rows } = await data.pool.query(
      `select typname from pg_type where oid < 10000 and typtype in ('b', 'r', 'm') and typarray <> 0`,
    )
    const unknown = rows.map(({ typname }) => String(typname)).filter((name) => !(name in texts || untested.has(name)))
    assert.deepEqual(unknown, [])
  })

  for (const [type, arbitrary] of Object.entries(texts)) {
    it(type, () =>
      inEachZone((zone) =>
        fc.assert(
          fc.asyncProperty(arbitrary, async (text) => {
            const { own, back } = await roundTrip(type, text).catch((error) => {
              if (says(error)) return { own: '', back: '' }
              throw error
            })
            assert.equal(back, own, zone)
          }),
          { numRuns: 12 },
        ),
      ),
    )

    it(`${type}[]`, () =>
      inEachZone((zone) =>
        fc.assert(
          fc.asyncProperty(fc.array(fc.option(arbitrary), { maxLength: 3 }), async (items) => {
            const elements = items.map((text) => (text === null ? 'NULL' : `"${text.replace(/["\\]/g, '\\$&')}"`))
            for (const literal of [`{${elements}}`, ...(items.length > 0 ? [`{{${elements}},{${elements}}}`] : [])]) {
              const separated = type === 'box' ? literal.replace(/,(?=["N{])/g, ';') : literal
              const { own, back, value } = await roundTrip(
                `_${type}`,
                separated,
                literal.startsWith('{{') ? 2 : 1,
              ).catch((error) => {
                if (says(error)) return { own: '', back: '', value: [] }
                throw error
              })
              assert.equal(back, own, zone)
              if (type !== 'box') assert.ok(Array.isArray(value))
            }
          }),
          { numRuns: 8 },
        ),
      ))
  }

  it('types of an app', async () => {
    for (const [type, text] of [
      ['whole', '9007199254740991'],
      ['tags', '{a,"b,c",NULL}'],
      ['mood', 'so so, "well"'],
      ['_mood', '{fine,"so so, \\"well\\""}'],
      ['pair', '(9007199254740993,"a,""b")'],
      ['_pair', '{"(9007199254740993,\\"a,b\\")"}'],
      ['_whole', '{9007199254740993}'],
    ] as const) {
      const { own, back } = await roundTrip(type, text)
      assert.equal(back, own, type)
    }
  })
})

describe('a value that JavaScript cannot hold is an error, wherever it is', () => {
  for (const text of [
    `9007199254740993::int8`,
    `array[9007199254740993::int8]`,
    `array[[1, -9007199254740993]]::int8[]`,
    `9007199254740993::whole`,
    `'{"id": 9007199254740993}'::jsonb`,
    `'[[12345678901234567890]]'::json`,
    `array['{"id": 9007199254740993}']::jsonb[]`,
    `'294276-12-31 00:00:00+00'::timestamptz`,
  ]) {
    it(text, () => assert.rejects(data.pool.query(`select ${text} as v`), says))
  }

  it('but a number of JSON that it can hold is none', async () => {
    const { rows } = await data.pool.query(
      `select '[1e21, 9007199254740992, 0.30000000000000004, "9007199254740993"]'::jsonb as v`,
    )
    assert.deepEqual(rows[0]!.v, [1e21, 9007199254740992, 0.30000000000000004, '9007199254740993'])
  })
})

describe('values of JavaScript', () => {
  const store = (column: string, value: unknown) =>
    data.write(async (tx) => {
      const [row] = await tx<{ v: string; r: unknown }>`
        insert into store (${sql.id(column)}) values (${value}) returning ${sql.id(column)}::text as v, ${sql.id(column)} as r`
      return row!
    })

  it('are JSON by sql.json, whatever they are', () =>
    fc.assert(
      fc.asyncProperty(fc.jsonValue(), async (value) => {
        const kept: unknown = JSON.parse(JSON.stringify(value))
        if (!JSON.stringify(value).includes('\\u0000')) assert.deepEqual((await store('jb', sql.json(value))).r, kept)
        assert.deepEqual((await store('j', sql.json(value))).r, kept)
      }),
      { numRuns: 50 },
    ))

  it('are JSON by themselves where they are plain objects, and an array of JSON where the column is one', async () => {
    assert.deepEqual((await store('jb', { a: [1, 'two', null] })).r, { a: [1, 'two', null] })
    assert.deepEqual((await store('jbs', [{ a: 1 }, sql.json([2]), sql.json('three')])).r, [{ a: 1 }, [2], 'three'])
  })

  for (const value of [[], ['a', 'b'], [1], [[]], [null]]) {
    it(`an array for a JSON column is refused with what to write: ${JSON.stringify(value)}`, async () => {
      for (const column of ['j', 'jb']) {
        await assert.rejects(
          store(column, value),
          (error) => isRungError(error, 'DATA_VALUE') && /sql\.json\(value\)/.test(error.message),
        )
      }
    })
  }

  it('are bytes where they are bytes', async () => {
    const bytes = Uint8Array.from([0, 255, 16])
    for (const value of [
      bytes,
      bytes.buffer,
      Buffer.from(bytes),
      new DataView(bytes.buffer),
      Uint8ClampedArray.from(bytes),
    ]) {
      assert.equal((await store('b', value)).v, '\\x00ff10')
    }
    assert.deepEqual(await data.read((tag) => tag`select ${[bytes.buffer, bytes.subarray(1)]}::bytea[]::text as v`), [
      { v: '{"\\\\x00ff10","\\\\xff10"}' },
    ])
  })

  it('a Date is the same instant, and in UTC where the column has no zone', async () => {
    const date = new Date('2026-03-01T00:30:00.123Z')
    await inEachZone(async () => {
      assert.equal((await store('d', date)).v, '2026-03-01')
      assert.equal((await store('ts', date)).r, '2026-03-01 00:30:00.123')
      assert.deepEqual((await store('tz', date)).r, date)
      const [row] = await data.read(
        (tag) => tag`select ${[date]}::date[] as d, ${[date]}::timestamp[] as ts, ${[date]}::timestamptz[] as tz`,
      )
      assert.deepEqual({ ...row }, { d: ['2026-03-01'], ts: ['2026-03-01 00:30:00.123'], tz: [date] })
    })
  })

  it('numbers keep their sign and size', async () => {
    const [row] = await data.read(
      (tag) =>
        tag`select ${-0}::float8 as z, ${2n ** 63n - 1n}::int8::text as b, ${[-0]}::float8[] as zs, ${1e300}::numeric::float8 as n`,
    )
    assert.deepEqual({ ...row }, { z: -0, b: '9223372036854775807', zs: [-0], n: 1e300 })
  })

  class Point {
    #x = 1
    get x() {
      return this.#x
    }
  }
  for (const [what, value] of Object.entries<unknown>({
    'a Map': new Map([['a', 1]]),
    'a Set': new Set([1]),
    'a promise': Promise.resolve(1),
    'a function': () => 1,
    'a symbol': Symbol('a'),
    'an error': new Error('no'),
    'an expression': /a/,
    'an object that hides what it has': new Point(),
    'a list of numbers that may be bytes': new Float64Array([1]),
    'an object whose JSON is a text': new URL('https://rung.example'),
    'half a character': 'a\ud800',
    'an invalid date': new Date(Number.NaN),
    'an array with one of them': [new Map()],
    'a circle': Object.assign(
      {},
      {
        get self() {
          return this
        },
      },
    ),
  })) {
    it(`${what} is refused`, async () => {
      await assert.rejects(
        store('t', value),
        (error) => isRungError(error, 'DATA_STATEMENT') || isRungError(error, 'DATA_VALUE'),
      )
    })
  }

  it('that have another form than the column are refused with the name of the form', async () => {
    await assert.rejects(store('pt', { x: 1, y: 2 }), /invalid input syntax for type point/)
    await assert.rejects(store('n', '1'), /malformed array literal/)
    await assert.rejects(store('n', { a: 1 }), (error) => isRungError(error, 'DATA_VALUE'))
  })
})
