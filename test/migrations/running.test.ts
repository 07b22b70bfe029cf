import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { breaksRunning } from '../../src/migrations/running.ts'
import { checksumOf } from '../../src/primitives/data/migrations.ts'
import { withTempDir } from '../support/postgres.ts'

const migration = (text: string) => ({
  module: 'shop',
  name: '0009_x.sql',
  text,
  checksum: checksumOf(text),
  reads: [],
})

describe('a migration beside code that runs', () => {
  it('may not take away what the code names, nor require what it does not', () =>
    withTempDir(async (dir) => {
      await mkdir(path.join(dir, 'migrations'))
      await writeFile(
        path.join(dir, 'migrations', '0001_item.sql'),
        'create table item (id int, old_price int, gone int);',
      )
      await writeFile(path.join(dir, 'item.test.ts'), '// gone is named in a test only\n')
      await writeFile(
        path.join(dir, 'item.ts'),
        'const rows = sql`select id, "old_price" from shop.item`\nconst oldName = 1\n',
      )
      const found = async (text: string) =>
        (await breaksRunning(migration(text), dir)).map(({ rule, line, message }) => `${rule} ${line}: ${message}`)
      const uses = (name: string, at: string) => `still-used 1: The running release still uses ${name} (item.ts:${at}).`
      const cases: [text: string, findings: string[]][] = [
        ['alter table item drop column old_price;', [uses('old_price', '1')]],
        ['alter table item rename column old_price to price;', [uses('old_price', '1')]],
        ['alter table item rename column old_name to name;', [uses('old_name', '2')]],
        ['drop table item;', [uses('item', '1')]],
        ['alter table item rename to thing;', [uses('item', '1')]],
        ['alter table item drop column gone;', []],
        ['alter table item drop column price;', []],
        ['alter table item add column note text;', []],
        ['create table item2 (id int); drop table item2;', []],
        ['alter table item alter column old_price set not null;', []],
        [
          'alter table item alter column note set not null;',
          ['not-yet-written 1: The running release does not write note: its inserts would fail.'],
        ],
        [
          'alter table item alter column note drop default;',
          ['not-yet-written 1: The running release does not write note: its inserts would fail.'],
        ],
        ['alter table item alter column note set default 7;', []],
      ]
      for (const [text, findings] of cases) assert.deepEqual(await found(text), findings, text)
      const text = '-- rung:allow still-used it is the price of another table\nalter table item drop column old_price;'
      const [allowed] = await breaksRunning(migration(text), dir)
      assert.equal(allowed!.overridden, 'it is the price of another table')
    }))
})
