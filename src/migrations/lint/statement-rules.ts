import { findNodes, type SqlNodes } from '../../engines/postgres/parser.ts'
import { foreignTables, touched } from '../../primitives/data/boundary.ts'
import {
  identifier,
  inFiles,
  isConcurrent,
  needsNoTransaction,
  type Problem,
  type Rule,
  type Step,
  stopsAll,
} from './rule.ts'

/** Rules about all statements but ALTER TABLE, and about combining statements in a file. */
export const statementRules: readonly Rule[] = [
  {
    name: 'index-concurrently',
    description: 'Creates an index without CONCURRENTLY.',
    checks: {
      IndexStmt: (index, { table, source }) =>
        !index.concurrent && [
          `${table} cannot be written while its index is built (SHARE lock).`,
          'Build it concurrently, in a file of its own (on a partitioned table: on each partition):',
          `${concurrently(source, index, table)};`,
        ],
    },
  },
  {
    name: 'drop-index-concurrently',
    description: 'Drops an index without CONCURRENTLY.',
    checks: {
      DropStmt: (drop, { table }) =>
        drop.removeType === 'OBJECT_INDEX' &&
        !drop.concurrent && [
          `Dropping ${table} waits for every query on its table to end, and each new one waits behind it (ACCESS EXCLUSIVE).`,
          'In a file of its own:',
          `drop index concurrently ${table};`,
        ],
    },
  },
  {
    name: 'reindex-concurrently',
    description: 'Rebuilds an index without CONCURRENTLY.',
    checks: {
      ReindexStmt: (reindex, { table }) =>
        !isConcurrent(reindex) && [
          `While ${table || 'it'} is rebuilt the table cannot be written, and planning a query waits for its indexes.`,
          'In a file of its own:',
          `reindex ${reindex.kind === 'REINDEX_OBJECT_INDEX' ? 'index' : 'table'} concurrently ${table || '…'};`,
        ],
    },
  },
  {
    name: 'table-rewrite',
    description: 'Copies a table: VACUUM FULL, CLUSTER, SET LOGGED or UNLOGGED, SET TABLESPACE, SET ACCESS METHOD.',
    checks: {
      VacuumStmt: (vacuum, { table }) =>
        findNodes(vacuum.options, 'DefElem').some((option) => option.defname === 'full') &&
        rewrite('VACUUM FULL', table || 'every table'),
      ClusterStmt: (_, { table }) => rewrite('CLUSTER', table || 'every clustered table'),
      AlterTableCmd: (command, { table }) =>
        /^AT_Set(Logged|UnLogged|TableSpace|AccessMethod)$/.test(command.subtype!) &&
        rewrite(`SET ${command.subtype!.slice('AT_Set'.length).toUpperCase()}`, table),
      AlterTableMoveAllStmt: (move) =>
        rewrite('SET TABLESPACE', `every relation in ${identifier(move.orig_tablespacename)}`),
    },
  },
  {
    name: 'materialized-view',
    description: 'Refreshes a materialized view without CONCURRENTLY, or first fills one in a file that does more.',
    evenIfNew: true,
    checks: {
      CreateTableAsStmt: (create, step, steps) =>
        create.objtype === 'OBJECT_MATVIEW' && !create.into?.skipData && fillsAmongOthers(step, steps),
      RefreshMatViewStmt(refresh, step, steps) {
        if (refresh.concurrent || refresh.skipData) return
        if (step.isNew) return fillsAmongOthers(step, steps)
        return [
          `The query of ${step.table} runs ${stopsAll}.`,
          'With a unique index on it, readers see the old rows until the new ones are complete:',
          `refresh materialized view concurrently ${step.table};`,
        ]
      },
    },
  },
  {
    name: 'breaks-running-code',
    description: 'Drops, renames or moves a table, column, view, type, sequence or schema, or renames an enum value.',
    checks: {
      DropStmt: (drop, { table }) => usedByCode.test(drop.removeType!) && breaks(`Dropping ${table}`),
      RenameStmt: (rename, { table }) =>
        usedByCode.test(rename.renameType!) &&
        breaks(`Renaming ${rename.subname === undefined ? table : identifier(rename.subname)}`),
      AlterObjectSchemaStmt: (move, { table }) =>
        usedByCode.test(move.objectType!) && breaks(`Moving ${table} to the schema ${identifier(move.newschema)}`),
      AlterEnumStmt: (change) => change.oldVal !== undefined && breaks(`Renaming the value '${change.oldVal}'`),
      AlterTableCmd: (command, { table }) =>
        command.subtype === 'AT_DropColumn' && breaks(`Dropping ${identifier(command.name)} of ${table}`),
    },
  },
  {
    name: 'truncate',
    description: 'Empties a table.',
    checks: {
      TruncateStmt: (_, { table }) => [
        `All rows of ${table} are removed at once, ${stopsAll}, until the file ends.`,
        'Delete in batches from a job, or create a new table and change the code to use it.',
      ],
    },
  },
  {
    name: 'lock-table',
    description: 'Locks a table explicitly.',
    checks: {
      LockStmt: (_, { table }) => [
        `The lock on ${table} is held until the file ends, and each query that conflicts waits behind it.`,
        'Remove it: each statement takes the lock that it needs.',
      ],
    },
  },
  {
    name: 'backfill-in-batches',
    description: 'Updates or deletes all rows of a table.',
    checks: {
      UpdateStmt: (update, { table }) =>
        isUnbounded(update.whereClause) && batches('UPDATE without WHERE changes', table),
      DeleteStmt: (remove, { table }) =>
        isUnbounded(remove.whereClause) && batches('DELETE without WHERE removes', table),
    },
  },
  {
    name: 'enum-value-used',
    description: 'Adds a value to an enum and uses it in the same file.',
    final: true,
    checks: {
      AlterEnumStmt(change, { table }, steps) {
        const { newVal, oldVal } = change
        const isUsed = steps.some(({ node }) => findNodes(node, 'A_Const').some((value) => value.sval?.sval === newVal))
        if (oldVal !== undefined || !isUsed) return
        return [
          `Postgres refuses to use the new value '${newVal}' of ${table} in the transaction that adds it.`,
          'Use it in the next file:',
          inFiles(`alter type ${table} add value '${newVal}';`, '… (the statements that use it)'),
        ]
      },
    },
  },
  {
    name: 'opaque',
    description: 'Runs a program that cannot be checked: DO, CALL, EXECUTE.',
    checkStatement({ ast }) {
      const what = { DoStmt: 'A DO block', CallStmt: 'A procedure', ExecuteStmt: 'A prepared statement' }
      const tag = Object.keys(ast)[0] as keyof typeof what
      if (!(tag in what)) return []
      return [
        [
          `${what[tag]} cannot be checked: it may lock, rewrite or change anything.`,
          'Write its statements out, move a backfill into a file NNNN_name.backfill.sql, or tell the reviewers what it does:',
          '-- rung:allow opaque <what it does, and for how long it locks>',
        ],
      ]
    },
  },
  {
    name: 'module-boundary',
    description: "Touches another module's schema, or changes search_path.",
    checkStatement({ ast }, file) {
      const settings = findNodes(ast, 'VariableSetStmt').filter((set) => set.name === 'search_path')
      return [
        ...foreignTables(touched(ast), { ...file, unqualified: 'own' }).map((violation): Problem => {
          return [violation.message, 'Put this change into a migration of that module.']
        }),
        ...settings.map((): Problem => {
          return ["search_path is the module's own schema; another one hides which tables are meant.", 'Remove it.']
        }),
      ]
    },
  },
  {
    name: 'transaction-control',
    description: 'Begins, ends or subdivides a transaction.',
    final: true,
    checkStatement: ({ ast, text }) =>
      'TransactionStmt' in ast
        ? [[`"${text}" would end the transaction in which the file is applied and recorded.`, 'Remove it.']]
        : [],
  },
  {
    name: 'concurrently-named',
    description: 'Creates an index CONCURRENTLY without a name.',
    final: true,
    evenIfNew: true,
    checks: {
      IndexStmt: (index, { table, source }) =>
        index.concurrent &&
        index.idxname === undefined && [
          'If the build is interrupted, the invalid index that it leaves is found by its name.',
          'Name it:',
          `${concurrently(source, index, table)};`,
        ],
    },
  },
  {
    name: 'concurrently-alone',
    description: 'Mixes a statement that cannot run in a transaction (CONCURRENTLY, VACUUM) with others.',
    final: true,
    checkStatement: (statement, { statements }) =>
      statements.length > 1 && needsNoTransaction([statement])
        ? [
            [
              'Postgres refuses this statement inside a transaction, and without one a failure would leave half the file done.',
              `Put it into a file of its own:\n${inFiles('… (the others)', `${statement.text};`)}`,
            ],
          ]
        : [],
  },
]

function batches(what: string, table: string): Problem {
  return [
    `${what} every row of ${table} in one transaction, and keeps all of them locked until it ends.`,
    'Make it a backfill, a file like 0005_name.backfill.sql. It runs in short batches along the primary key:',
    '… where :batch;',
  ]
}

/** Adds CONCURRENTLY, and a name like the one that Postgres would choose. */
function concurrently(text: string, index: SqlNodes['IndexStmt'], table: string): string {
  const columns = findNodes(index.indexParams, 'IndexElem').map(({ name }) => name ?? 'expr')
  const name = [table.replaceAll('"', '').split('.').at(-1), ...columns, 'idx'].join('_')
  const comments = /^(?:\s|--[^\n]*\n|\/\*[\s\S]*?\*\/)+/
  return text
    .replace(comments, '')
    .replace(
      /\bindex\b(\s+concurrently\b)?/i,
      (word) => `${word.split(/\s/)[0]} concurrently${index.idxname === undefined ? ` ${identifier(name)}` : ''}`,
    )
}

/** A condition without a column is true for all rows or for none. */
function isUnbounded(condition: unknown): boolean {
  return findNodes(condition, 'ColumnRef').length === 0 && findNodes(condition, 'CurrentOfExpr').length === 0
}

const usedByCode = /^OBJECT_(TABLE|VIEW|MATVIEW|FOREIGN_TABLE|SEQUENCE|TYPE|DOMAIN|SCHEMA|COLUMN|ATTRIBUTE)$/

function breaks(what: string): Problem {
  return [
    `${what} breaks the release that still runs during the deploy, and any rollback to it.`,
    'Release code that no longer uses the name, drop it in a later release, and state which one:',
    '-- rung:allow breaks-running-code unused since release <n>',
  ]
}

function rewrite(what: string, table: string): Problem {
  return [
    `${what} copies all of ${table} ${stopsAll}.`,
    'Postgres has no online form of it. Copy into a new table in batches and change the code to use it, or say:',
    '-- rung:allow table-rewrite <why the table is small, or which pause was agreed>',
  ]
}

/** A long read keeps the locks of all statements before it. */
function fillsAmongOthers({ at, table }: Step, steps: readonly Step[]): Problem | false {
  return (
    steps.some((other) => other.at !== at && !other.isNew) && [
      `While the query that fills ${table} runs, the locks that the other statements took are held.`,
      'Create it in a file of its own, with nothing but its indexes.',
    ]
  )
}
