import assert from 'node:assert/strict'
import { test } from 'node:test'
import { prettyLine } from '../../src/runtime/pretty.ts'

const plain = { colors: false, frames: false }
const base = { time: '2026-11-28T12:03:04.123Z', pid: 1, hostname: 'h', name: 'shop' }
const line = (record: object, options = plain) =>
  prettyLine(JSON.stringify({ ...base, ...record }), options).replace(/^(\S*?)\d\d:\d\d:\d\d\.123/, '$1TIME')

test('a request: what was asked, status, duration, statements', () => {
  const request = { level: 'info', msg: 'request', requestId: 'r', traceparent: 't', module: 'notes', statements: 1 }
  assert.equal(
    line({ ...request, method: 'GET', route: '/notes/:id', status: 200, ms: 12.3, statementMs: 2.1 }),
    'TIME INFO  GET /notes/:id 200 12.3 ms, 1 statement in 2.1 ms',
  )
  assert.equal(
    line({ ...request, level: 'error', method: 'POST', status: 500, ms: 3, statements: 0 }),
    'TIME ERROR POST (no route) 500 3 ms',
  )
})

test('numbers are short', () => {
  assert.equal(
    line({ level: 'warn', msg: 'slow', durationMs: 43.801667999999836, rows: 12 }),
    'TIME WARN  slow durationMs=43.8 rows=12',
  )
})

test('an error with what caused it, without what is in Node', () => {
  const err = {
    name: 'RungError',
    code: 'HTTP_INTERNAL',
    message: 'Something went wrong on the server.',
    stack:
      'RungError: …\n    at node:internal/process/task_queues:104:5\n    at send (/app/node_modules/fastify/reply.js:1:2)\n    at handler (/app/module.ts:3:4)',
    cause: {
      name: 'TypeError',
      message: 'two\nlines',
      stack: 'TypeError: two\nlines\n    at /app/other.ts:7:8',
      cause: 'a text',
    },
  }
  assert.equal(
    line({ level: 'error', msg: 'Something went wrong on the server.', err }),
    [
      'TIME ERROR Something went wrong on the server.',
      '    RungError HTTP_INTERNAL: Something went wrong on the server.',
      '      at handler (/app/module.ts:3:4)',
      '    caused by TypeError: two',
      '    lines',
      '      at /app/other.ts:7:8',
      '    caused by a text',
    ].join('\n'),
  )
})

test('an error without a place in the app shows where else it comes from, unless its cause tells more', () => {
  const foreign = 'Error: m\n    at connect (node:net:1:2)\n    at pool (/app/node_modules/pg/pool.js:3:4)'
  const alone = line({ level: 'error', msg: 'm', err: { name: 'Error', message: 'm', stack: foreign } })
  assert.match(alone, /at connect .*\n.*at pool /)
  const cause = { name: 'Error', message: 'deep', stack: 'Error: deep\n    at /app/other.ts:7:8' }
  const caused = line({ level: 'error', msg: 'm', err: { name: 'Error', message: 'm', stack: foreign, cause } })
  assert.doesNotMatch(caused, /at pool/)
  assert.match(caused, /caused by Error: deep\n {6}at \/app\/other\.ts:7:8$/)
})

test('with frames it shows the code around the place', () => {
  const err = { name: 'Error', message: 'm', stack: `Error: m\n    at ${import.meta.filename}:1:8` }
  assert.match(
    line({ level: 'error', msg: 'm', err }, { ...plain, frames: true }),
    /> 1 \| import assert from 'node:assert\/strict'\n/,
  )
})

test('other lines keep their facts; what is no JSON stays as it is', () => {
  assert.equal(
    line({ level: 'warn', msg: 'a word', event: 'e', file: 'a.eml', n: { a: 1 } }),
    'TIME WARN  a word file=a.eml n={"a":1}',
  )
  assert.equal(prettyLine('(node:1) Warning', plain), '(node:1) Warning')
  assert.equal(line({ level: 'info', msg: 'x', long: 'y'.repeat(1_000) }).length, 'TIME INFO  x long='.length + 300)
})

test('colours only where they are wanted', () => {
  const colored = line({ level: 'error', msg: 'm' }, { colors: true, frames: false })
  assert.ok(colored.includes('\u001b[31m') && colored.endsWith('m'))
  assert.ok(!line({ level: 'error', msg: 'm' }).includes('\u001b'))
})
