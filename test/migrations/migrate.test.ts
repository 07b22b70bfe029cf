import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type Client, type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import {
  loadMigrations,
  type MigrationEvent,
  migrate,
  migrationStatus,
  pendingOf,
} from '../../src/migrations/migrate.ts'
import { coded, withFiles } from '../support/migrations.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'

let postgres: TestPostgres
let connection: ConnectionConfig
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())
beforeEach(async () => {
  connection = await postgres.createDatabase()
})

async function using<T>(fn: (client: Client) => Promise<T>): Promise<T> {
  const client = await connectOnce(connection)
  try {
    return await fn(client)
  } finally {
    await client.end()
  }
}

const rowsOf = (text: string) => using(async (client) => (await client.query(text)).rows)

describe('migrations', () => {
  it('are applied in order, once, in the schema of their module', async () => {
    await withFiles(
      { '0002_more.sql': 'alter table item add column label text;', '0001_item.sql': 'create table item (id int);' },
      async (load) => {
        const applied = await migrate({ connection, migrations: await load() })
        assert.deepEqual(
          applied.map(({ name }) => name),
          ['0001_item.sql', '0002_more.sql'],
        )
        assert.deepEqual(await migrate({ connection, migrations: await load() }), [])
        assert.deepEqual(await rowsOf('select id, label from shop.item'), [])
        const states = await migrationStatus({ connection, migrations: await load() })
        assert.deepEqual(
          states.map(({ state }) => state),
          ['applied', 'applied'],
        )
      },
    )
  })

  it('that fail leave nothing of themselves, and keep what was before', async () => {
    const files = {
      '0001_item.sql': 'create table item (id int);',
      '0002_bad.sql': 'create table half (id int);\nselect 1/0;',
    }
    await withFiles(files, async (load, folder) => {
      await assert.rejects(
        migrate({ connection, migrations: await load() }),
        coded('MIGRATION_FAILED', /shop\/0002_bad\.sql/),
      )
      assert.deepEqual(
        await rowsOf("select to_regclass('shop.item') is not null as item, to_regclass('shop.half') as half"),
        [{ item: true, half: null }],
      )
      await writeFile(path.join(folder, '0002_bad.sql'), 'create table whole (id int);')
      assert.equal((await migrate({ connection, migrations: await load() })).length, 1)
    })
  })

  it('of one module must not have the same number', async () => {
    const files = { '0001_item.sql': 'create table item (id int);', '00001_other.sql': 'create table other (id int);' }
    await withFiles(files, async (load) => {
      await assert.rejects(
        load(),
        coded('MIGRATION_INVALID', /00001_other\.sql and 0001_item\.sql have the same number/),
      )
    })
  })

  it('that were applied must not change, nor vanish, nor get one before them', async () => {
    await withFiles({ '0002_item.sql': 'create table item (id int);' }, async (load, folder) => {
      await migrate({ connection, migrations: await load() })
      await writeFile(path.join(folder, '0001_late.sql'), 'create table late (id int);')
      await assert.rejects(
        migrate({ connection, migrations: await load() }),
        coded('MIGRATION_INVALID', /sorts before/),
      )
      await writeFile(path.join(folder, '0002_item.sql'), 'create table item (id bigint);')
      await assert.rejects(migrate({ connection, migrations: await load() }), coded('MIGRATION_CHANGED', /changed/))
    })
    assert.throws(
      () =>
        pendingOf(
          [{ module: 'shop', name: '0002_b.sql', text: '', checksum: 'x', reads: [] }],
          [{ module: 'shop', name: '0001_a.sql', checksum: 'y' }],
        ),
      coded('MIGRATION_CHANGED', /gone/),
    )
    assert.throws(
      () =>
        pendingOf(
          [{ module: 'rung', name: '0001_jobs', text: '', checksum: 'x', reads: [] }],
          [{ module: 'rung', name: '0001_jobs', checksum: 'y' }],
        ),
      coded('MIGRATION_CHANGED', /another version of Rung.* an empty database/),
    )
  })

  it('of a newer build do not keep an older one from starting, and a changed one still does', async () => {
    const files = { '0001_item.sql': 'create table item (id int);' }
    await withFiles(files, async (load, folder) => {
      const older = await load()
      await writeFile(path.join(folder, '0002_note.sql'), 'alter table item add column note text;')
      await migrate({ connection, migrations: await load() })
      const events: string[] = []
      const onEvent = (event: MigrationEvent) => events.push(event.kind === 'newer' ? event.names.join() : event.kind)
      assert.deepEqual(await migrate({ connection, migrations: older, onEvent }), [])
      assert.deepEqual(events, ['shop/0002_note.sql'])
      await writeFile(path.join(folder, '0001_item.sql'), 'create table item (id bigint);')
      const [changed] = await load()
      await assert.rejects(migrate({ connection, migrations: [changed!] }), coded('MIGRATION_CHANGED', /changed/))
    })
    // A file with the number of a newer build's migration is another one.
    assert.throws(
      () =>
        pendingOf(
          [{ module: 'shop', name: '0002_b.sql', text: '', checksum: 'x', reads: [] }],
          [{ module: 'shop', name: '0002_a.sql', checksum: 'y' }],
        ),
      coded('MIGRATION_CHANGED', /gone/),
    )
  })

  it('count as unchanged when only their line ends differ', async () => {
    await withFiles({ '0001_item.sql': 'create table item (\n  id int\n);\n' }, async (load, folder) => {
      await migrate({ connection, migrations: await load() })
      await writeFile(path.join(folder, '0001_item.sql'), 'create table item (\r\n  id int\r\n);\r\n')
      assert.deepEqual(await migrate({ connection, migrations: await load() }), [])
    })
  })

  it('with a wrong name, or that are not SQL, are refused', async () => {
    await withFiles({ 'first.sql': 'select 1' }, (load) => assert.rejects(load(), coded('MIGRATION_INVALID', /0001_/)))
    await withFiles({ '0001_bad.sql': 'creat table x' }, async (load) => {
      await assert.rejects(
        migrate({ connection, migrations: await load() }),
        coded('MIGRATION_INVALID', /not valid SQL/),
      )
    })
    await assert.rejects(
      loadMigrations([{ module: 'shop', folder: new URL('file:///nowhere/'), reads: [] }]),
      coded('MIGRATION_INVALID', /cannot be read/),
    )
  })

  it('that would lock a large table are refused before anything is applied', async () => {
    await withFiles({ '0001_item.sql': 'create table item (id int);' }, async (load, folder) => {
      await migrate({ connection, migrations: await load() })
      await writeFile(path.join(folder, '0002_fine.sql'), 'create table fine (id int);')
      await writeFile(path.join(folder, '0003_index.sql'), 'create index item_id_idx on item (id);')
      await assert.rejects(migrate({ connection, migrations: await load() }), coded('MIGRATION_UNSAFE', /concurrently/))
      assert.deepEqual(await rowsOf("select to_regclass('shop.fine') as fine"), [{ fine: null }])
    })
  })

  describe('that build an index concurrently', () => {
    const indexes = () =>
      rowsOf(
        "select indexrelid::regclass::text as name, indisvalid as valid from pg_index where indrelid = 'shop.item'::regclass order by 1",
      )
    /** With a table that has two equal rows. */
    const withDoubles = (body: Parameters<typeof withFiles>[1]) =>
      withFiles({ '0001_item.sql': 'create table item (id int, label text);' }, async (load, folder) => {
        await migrate({ connection, migrations: await load() })
        await rowsOf("insert into shop.item values (1, 'a'), (1, 'a')")
        await body(load, folder)
      })
    const run = async (load: () => ReturnType<typeof loadMigrations>) =>
      migrate({ connection, migrations: await load() })

    it('and fail say which value is duplicated, and leave nothing', () =>
      withDoubles(async (load, folder) => {
        const file = path.join(folder, '0002_index.sql')
        await writeFile(file, 'create unique index concurrently item_id_key on item (id);')
        for (let n = 0; n < 3; n += 1) {
          await assert.rejects(run(load), coded('MIGRATION_FAILED', /Key \(id\)=\(1\) is duplicated\./))
          assert.deepEqual(await indexes(), [])
        }
        await rowsOf('delete from shop.item')
        await run(load)
        assert.deepEqual(await indexes(), [{ name: 'shop.item_id_key', valid: true }])
      }))

    /** As a try leaves it that was killed half-way: its index is invalid. */
    async function killedHalfway(load: () => ReturnType<typeof loadMigrations>, index: string): Promise<void> {
      await assert.rejects(run(load), coded('MIGRATION_FAILED'))
      await using((client) => client.query(index).catch(() => {}))
      assert.deepEqual(
        (await indexes()).map(({ valid }) => valid),
        [false],
      )
    }

    it('and were killed leave nothing, also when the corrected file names it differently', () =>
      withDoubles(async (load, folder) => {
        const file = path.join(folder, '0002_index.sql')
        const text = 'create unique index concurrently one on shop.item (id)'
        await writeFile(file, text)
        await killedHalfway(load, text)
        await writeFile(file, 'create index concurrently two on item (id);')
        await run(load)
        assert.deepEqual(await indexes(), [{ name: 'shop.two', valid: true }])
      }))

    it('leave invalid ones alone that were there before', () =>
      withDoubles(async (load, folder) => {
        await using((client) =>
          client.query('create unique index concurrently other on shop.item (id)').catch(() => {}),
        )
        await writeFile(path.join(folder, '0002_index.sql'), 'create unique index concurrently mine on item (id);')
        await assert.rejects(run(load), coded('MIGRATION_FAILED'))
        assert.deepEqual(await indexes(), [{ name: 'shop.other', valid: false }])
      }))

    it('never drop an index of that name that existed before', () =>
      withDoubles(async (load, folder) => {
        await rowsOf('create index label_idx on shop.item (label)')
        const file = path.join(folder, '0002_index.sql')
        await writeFile(file, 'create index concurrently label_idx on item (lower(label));')
        for (let n = 0; n < 2; n += 1) {
          await assert.rejects(run(load), coded('MIGRATION_FAILED', /already exists/))
          assert.deepEqual(await indexes(), [{ name: 'shop.label_idx', valid: true }])
        }
        await writeFile(file, 'create index concurrently if not exists label_idx on item (lower(label));')
        assert.equal((await run(load)).length, 1)
        assert.deepEqual(await indexes(), [{ name: 'shop.label_idx', valid: true }])
      }))
  })

  it('tell the line of an error by characters, and may begin with a mark of their encoding', async () => {
    const files = { '0001_emoji.sql': "\uFEFF-- 😀😀😀😀\nselect '😀';\n\nselect nothing;\nselect 1;\n" }
    await withFiles(files, async (load) => {
      await assert.rejects(migrate({ connection, migrations: await load() }), coded('MIGRATION_FAILED', /at line 4:/))
    })
  })

  it('in another encoding are refused', async () => {
    await withFiles({}, async (load, folder) => {
      await writeFile(path.join(folder, '0001_latin.sql'), Buffer.from("select 'caf\xe9'", 'latin1'))
      await assert.rejects(load(), coded('MIGRATION_INVALID', /UTF-8/))
    })
  })

  it('are in the order of their numbers', async () => {
    const files = {
      '9999_a.sql': 'create table item (id int);',
      '10000_b.sql': 'alter table item add column label text;',
    }
    await withFiles(files, async (load, folder) => {
      assert.equal((await migrate({ connection, migrations: await load() })).length, 2)
      await writeFile(path.join(folder, '10001_c.sql'), 'alter table item add column more text;')
      assert.equal((await migrate({ connection, migrations: await load() })).length, 1)
    })
  })

  it('that were done concurrently and not recorded, because the process was killed, are done again', async () => {
    await withFiles({ '0001_item.sql': 'create table item (id int);' }, async (load, folder) => {
      await migrate({ connection, migrations: await load() })
      await writeFile(path.join(folder, '0002_index.sql'), 'create index concurrently item_id_idx on item (id);')
      await writeFile(
        path.join(folder, '0003_drop.sql'),
        'drop index concurrently item_id_idx; -- rung:allow breaks-running-code a test',
      )
      await migrate({ connection, migrations: (await load()).slice(0, 2) })
      // As if the record had not been written.
      await rowsOf(`with gone as (delete from rung.migration where name = '0002_index.sql' returning module, name)
        insert into rung.migration_attempt select *, 'item_id_idx' from gone`)
      assert.deepEqual(
        (await migrate({ connection, migrations: (await load()).slice(0, 2) })).map(({ name }) => name),
        ['0002_index.sql'],
      )
      assert.deepEqual(await rowsOf('select * from rung.migration_attempt'), [])
    })
  })

  it('step back when a lock is not free, and come again', async () => {
    await withFiles({ '0001_item.sql': 'create table item (id int);' }, async (load, folder) => {
      await migrate({ connection, migrations: await load() })
      await writeFile(path.join(folder, '0002_column.sql'), 'alter table item add column label text;')
      const migrations = await load()
      await using(async (holder) => {
        await holder.query('begin')
        await holder.query('select * from shop.item')
        const events: MigrationEvent['kind'][] = []
        await migrate({
          connection,
          migrations,
          lockTimeoutMs: 20,
          onEvent(event) {
            events.push(event.kind)
            if (event.kind === 'retry') void holder.query('commit')
          },
        })
        assert.ok(events.includes('retry'))
        assert.equal(events.at(-1), 'applied')
      })
    })
  })

  it('and give up after so many tries', async () => {
    await withFiles({ '0001_item.sql': 'create table item (id int);' }, async (load, folder) => {
      await migrate({ connection, migrations: await load() })
      await writeFile(path.join(folder, '0002_column.sql'), 'alter table item add column label text;')
      await using(async (holder) => {
        await holder.query('begin')
        await holder.query('select * from shop.item')
        const migrations = await load()
        await assert.rejects(
          migrate({ connection, migrations, lockTimeoutMs: 20, lockRetries: 1 }),
          coded('MIGRATION_FAILED', /lock timeout/),
        )
      })
    })
  })

  it('of several processes at once are applied once', async () => {
    await withFiles({ '0001_item.sql': 'create table item (id int);' }, async (load) => {
      const migrations = await load()
      const applied = await Promise.all(Array.from({ length: 4 }, () => migrate({ connection, migrations })))
      assert.equal(applied.flat().length, 1)
    })
  })
})
