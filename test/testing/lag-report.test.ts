import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type LateRead, lagReport } from '../../src/testing/lag-report.ts'
import type { Outcome } from '../../src/testing/reporter.ts'

const fails = (name: string, cause = 'testCodeFailure', file = 'a.test.ts'): Outcome => ({
  file,
  name,
  failed: true,
  cause,
})
const passes = (name: string, file = 'a.test.ts'): Outcome => ({ file, name, failed: false })
const read = (what: string, tests: string[], file = 'a.test.ts'): LateRead => ({
  file,
  tests,
  reader: { what, principal: undefined },
  writer: { what: 'POST /', principal: 'ann' },
  afterMs: 1,
})
const names = (tests: readonly { name: string }[]) => tests.map(({ name }) => name)

test('a test is late if it fails with lag alone, and is counted where it went wrong', () => {
  const withLag = [
    fails('s > late'),
    fails('s', 'subtestsFailed'),
    fails('s > broken'),
    passes('s > fine'),
    fails('h', 'hookFailed'),
    fails('h > never began', 'cancelledByParent'),
  ]
  const again = [passes('s > late'), fails('s > broken'), fails('s', 'subtestsFailed'), passes('h')]
  const { late, broken, testsReadLate } = lagReport(withLag, again, [
    read('GET /late', ['s > late']),
    read('GET /fine', ['s > fine']),
    read('GET /hook', []),
  ])
  assert.deepEqual([names(late), names(broken), testsReadLate], [['s > late', 'h'], ['s > broken'], 2])
  assert.deepEqual(
    late.map(({ reads }) => reads.map(({ reader }) => reader.what)),
    [['GET /late'], ['GET /hook']],
  )
})

test('the reads of a test are those of its file, unless a helper defines it', () => {
  const reads = [read('GET /a', ['one'], 'a.test.ts'), read('GET /b', ['one'], 'b.test.ts')]
  const readsOf = (file: string) => lagReport([fails('one', 'testCodeFailure', file)], [], reads).late[0]!.reads
  assert.deepEqual(
    readsOf('a.test.ts').map(({ reader }) => reader.what),
    ['GET /a'],
  )
  assert.equal(readsOf('suite.ts').length, 2)
})
