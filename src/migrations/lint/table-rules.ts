import { findNodes, type SqlNodes } from '../../engines/postgres/parser.ts'
import { wordsOf } from '../../primitives/data/boundary.ts'
import { identifier, inFiles, inParentheses, isProven, type Problem, qualified, type Rule, stopsAll } from './rule.ts'

/** Rules about ALTER TABLE on a table that is in use. */
export const tableRules: readonly Rule[] = [
  {
    name: 'column-volatile-default',
    description:
      'Adds a column whose default may differ from row to row: random(), gen_random_uuid(), clock_timestamp().',
    checks: {
      Constraint(constraint, { column, table }) {
        const calls = unsteadyCalls(constraint.raw_expr)
        if (!column || constraint.contype !== 'CONSTR_DEFAULT' || calls.length === 0) return
        const name = identifier(column.colname)
        return [
          `${calls[0]} may return another value for each row: Postgres rewrites all of ${table} ${stopsAll}.`,
          'Set the default for new rows only, and fill the old ones in batches:',
          `alter table ${table} add column ${name} ${typeOf(column)};`,
          `alter table ${table} alter column ${name} set default ${calls[0]};`,
        ]
      },
    },
  },
  {
    name: 'column-not-null',
    description: 'Adds a NOT NULL column without a default.',
    checks: {
      ColumnDef(column, { table }) {
        const hasValue = has(column, 'CONSTR_DEFAULT', 'CONSTR_IDENTITY', 'CONSTR_GENERATED') || isSerial(column)
        if (!has(column, 'CONSTR_NOTNULL') || hasValue) return
        const name = identifier(column.colname)
        return [
          `The rows of ${table} would have no value for ${name}: this fails unless the table is empty.`,
          'A constant default costs nothing, whatever the size; otherwise add it nullable, fill it in a backfill, and see set-not-null:',
          `alter table ${table} add column ${name} ${typeOf(column)} not null default <constant>;`,
        ]
      },
    },
  },
  {
    name: 'column-generated',
    description: 'Adds a stored generated column, or changes how one is generated.',
    checks: {
      Constraint(constraint, { column, table, source }) {
        if (!column || constraint.contype !== 'CONSTR_GENERATED' || constraint.generated_kind === 'v') return
        const name = identifier(column.colname)
        return [
          `${name} is computed and stored for each row: Postgres rewrites all of ${table} ${stopsAll}.`,
          'Compute it when it is read, which stores nothing; or fill a plain column with a trigger and in batches:',
          `alter table ${table} add column ${name} ${typeOf(column)} generated always as ${inParentheses(source)} virtual;`,
        ]
      },
      AlterTableCmd: (command, { table }) =>
        command.subtype === 'AT_SetExpression' && [
          `${identifier(command.name)} is computed again for each row: Postgres rewrites all of ${table} ${stopsAll}.`,
          'Add a second column with the new expression, and change the code to use it.',
        ],
    },
  },
  {
    name: 'column-serial',
    description: 'Adds a serial or identity column.',
    checks: {
      ColumnDef(column, { table }) {
        if (!isSerial(column) && !has(column, 'CONSTR_IDENTITY')) return
        const name = identifier(column.colname)
        return [
          `Each row gets its own number in ${name}: Postgres rewrites all of ${table} ${stopsAll}.`,
          'Number new rows from a sequence, and the old ones in batches:',
          `alter table ${table} add column ${name} bigint;`,
          `create sequence <sequence> owned by ${table}.${name};`,
          `alter table ${table} alter column ${name} set default nextval('<sequence>');`,
        ]
      },
    },
  },
  {
    name: 'column-type',
    description: 'Changes the type of a column.',
    checks: {
      AlterTableCmd(command, { table }) {
        if (command.subtype !== 'AT_AlterColumnType') return
        const type = typeOf(findNodes(command.def, 'ColumnDef')[0])
        return [
          `A new type for ${identifier(command.name)} rewrites all of ${table} and its indexes ${stopsAll}.`,
          'Add a column of the new type, write both, fill the old rows in batches, and change the code to use it:',
          `alter table ${table} add column <new name> ${type};`,
          'From varchar(n) to text or to a longer varchar nothing is rewritten. The file does not show that; state it:',
          '-- rung:allow column-type <from which type to which, and that nothing is rewritten>',
        ]
      },
    },
  },
  {
    name: 'set-not-null',
    description: 'Makes a column NOT NULL without a validated check that proves it.',
    checks: {
      AlterTableCmd: (command, step, steps) =>
        command.subtype === 'AT_SetNotNull' && !isProven(step, steps) && notNullScan(command.name, step.table),
      Constraint: (constraint, { column, table }) =>
        constraint.contype === 'CONSTR_NOTNULL' &&
        !constraint.skip_validation &&
        column === undefined &&
        notNullScan(wordsOf(constraint.keys)[0], table),
    },
  },
  {
    name: 'check-not-valid',
    description: 'Adds a check to a table, or a check or NOT NULL to a domain, without NOT VALID.',
    checks: {
      Constraint(constraint, { column, table, source }) {
        if (constraint.contype !== 'CONSTR_CHECK' || constraint.skip_validation) return
        const name = constraintName(constraint.conname, table, column ? [column.colname!] : [], 'check')
        return [
          `The check is evaluated for each row: Postgres scans all of ${table} ${stopsAll}.`,
          'Add it for new rows (for a new column in a statement of its own), and validate the old ones under a weak lock:',
          thenValidate(table, name, `check ${inParentheses(source)}`),
        ]
      },
      AlterDomainStmt(domain, { table, source }) {
        const constraint = findNodes(domain.def, 'Constraint')[0]
        const isSetNotNull = domain.subtype === 'O'
        if (!isSetNotNull && (constraint === undefined || constraint.skip_validation)) return
        const isNotNull = isSetNotNull || constraint?.contype === 'CONSTR_NOTNULL'
        const name = constraintName(constraint?.conname, table, [], 'check')
        return [
          `Postgres scans each table with a column of ${table}, and they cannot be written meanwhile (SHARE lock).`,
          'Add it for new values, and validate the old ones under a weak lock:',
          thenValidate(table, name, `check ${isNotNull ? '(value is not null)' : inParentheses(source)}`).replaceAll(
            'alter table',
            'alter domain',
          ),
        ]
      },
    },
  },
  {
    name: 'foreign-key-not-valid',
    description: 'Adds a foreign key without NOT VALID. (A new column without a default may have one.)',
    checks: {
      Constraint(constraint, { column, table }) {
        if (constraint.contype !== 'CONSTR_FOREIGN' || constraint.skip_validation) return
        // A new column without a default holds only nulls, and Postgres then skips the scan.
        if (column && !has(column, 'CONSTR_DEFAULT')) return
        const columns = column ? [column.colname!] : wordsOf(constraint.fk_attrs)
        const { schemaname, relname } = constraint.pktable!
        const other = qualified(schemaname === undefined ? [relname!] : [schemaname, relname!])
        const definition = `foreign key (${columns.map(identifier).join(', ')}) references ${other}`
        return [
          `Each row of ${table} is looked up in ${other}, and neither can be written meanwhile (SHARE ROW EXCLUSIVE).`,
          'Add it for new rows, and validate the old ones under a weak lock:',
          thenValidate(table, constraintName(constraint.conname, table, columns, 'fkey'), definition),
        ]
      },
      ATAlterConstraint: (change, { table }) =>
        change.alterEnforceability === true &&
        change.is_enforced === true && [
          `To enforce ${identifier(change.conname)} each row of ${table} is looked up ${stopsAll}.`,
          'Drop it and add it again:',
          thenValidate(table, identifier(change.conname), 'foreign key (…) references …'),
        ],
    },
  },
  {
    name: 'validate-apart',
    description: 'Validates a constraint in the file that adds it.',
    checks: {
      AlterTableCmd(command, { table, fullName }, steps) {
        if (command.subtype !== 'AT_ValidateConstraint') return
        const isAdded = steps.some(({ tag, node, fullName: other }) => {
          return tag === 'Constraint' && other === fullName && (node as SqlNodes['Constraint']).conname === command.name
        })
        if (!isAdded) return
        return [
          `The file is one transaction: the strong lock that adds ${identifier(command.name)} is held while all of ${table} is scanned.`,
          'Move this to the next file:',
          `alter table ${table} validate constraint ${identifier(command.name)};`,
        ]
      },
    },
  },
  {
    name: 'unique-using-index',
    description: 'Adds a unique or primary key constraint that builds its own index.',
    checks: {
      Constraint(constraint, { column, table }) {
        if (!/^CONSTR_(UNIQUE|PRIMARY)$/.test(constraint.contype!) || constraint.indexname) return
        const isKey = constraint.contype === 'CONSTR_PRIMARY'
        const columns = column ? [column.colname!] : wordsOf(constraint.keys)
        const name = constraintName(constraint.conname, table, isKey ? [] : columns, isKey ? 'pkey' : 'key')
        return [
          `Postgres builds the index on ${table} ${stopsAll}.`,
          `Build the index first, then make it the constraint${isKey ? ' (its columns must be NOT NULL already)' : ''}:`,
          inFiles(
            `create unique index concurrently ${name} on ${table} (${columns.map(identifier).join(', ')});`,
            `alter table ${table} add constraint ${name} ${isKey ? 'primary key' : 'unique'} using index ${name};`,
          ),
        ]
      },
    },
  },
  {
    name: 'exclusion-constraint',
    description: 'Adds an exclusion constraint.',
    checks: {
      Constraint: (constraint, { table }) =>
        constraint.contype === 'CONSTR_EXCLUSION' && [
          `Postgres builds an index on ${table} and compares its rows ${stopsAll}.`,
          'Postgres has no online form of it. Create it on a new table and copy the rows in batches, or say:',
          '-- rung:allow exclusion-constraint <why the table is small, or which pause was agreed>',
        ],
    },
  },
  {
    name: 'attach-partition',
    description: 'Attaches an existing table as a partition without a validated check that proves its rows.',
    checks: {
      PartitionCmd: (_, step, steps) =>
        !isProven(step, steps) && [
          `Postgres scans all of ${step.table} ${stopsAll}.`,
          'Let a check of the same bounds prove them under a weak lock, and Postgres skips the scan:',
          inFiles(
            `alter table ${step.table} add constraint in_bounds check (<key is not null and within the bounds>) not valid;`,
            `alter table ${step.table} validate constraint in_bounds;\n` +
              `alter table <parent> attach partition ${step.table} for values …;\n` +
              `alter table ${step.table} drop constraint in_bounds;`,
          ),
        ],
    },
  },
  {
    name: 'detach-partition-concurrently',
    description: 'Detaches a partition without CONCURRENTLY.',
    checks: {
      AlterTableCmd(command, { table }) {
        const part = findNodes(command.def, 'PartitionCmd')[0]
        if (command.subtype !== 'AT_DetachPartition' || !part || part.concurrent) return
        return [
          `Detaching waits for every query on ${table} to end, and each new one waits behind it (ACCESS EXCLUSIVE).`,
          'In a file of its own:',
          `alter table ${table} detach partition ${identifier(part.name?.relname)} concurrently;`,
        ]
      },
    },
  },
]

function thenValidate(table: string, name: string, definition: string): string {
  return inFiles(
    `alter table ${table} add constraint ${name} ${definition} not valid;`,
    `alter table ${table} validate constraint ${name};`,
  )
}

/** The given name of a constraint, or one like Postgres would choose. */
function constraintName(given: string | undefined, table: string, columns: readonly string[], suffix: string): string {
  return identifier(given ?? [table.replaceAll('"', '').split('.').at(-1), ...columns, suffix].join('_'))
}

function has(column: SqlNodes['ColumnDef'], ...types: string[]): boolean {
  return findNodes(column.constraints, 'Constraint').some((constraint) => types.includes(constraint.contype!))
}

function typeOf(column: SqlNodes['ColumnDef'] | undefined): string {
  const words = wordsOf(column?.typeName?.names)
  return qualified(words[0] === 'pg_catalog' ? words.slice(1) : words) + (column?.typeName?.arrayBounds ? '[]' : '')
}

function isSerial(column: SqlNodes['ColumnDef']): boolean {
  return /^(small|big)?serial$|^serial[248]$/.test(wordsOf(column.typeName?.names).at(-1) ?? '')
}

/** Postgres' functions that return one result for a whole statement. Others would have to be looked up in the catalog. */
const steady = new Set(
  `now transaction_timestamp statement_timestamp current_setting current_schema timezone date_trunc date_part extract
  make_date make_time make_timestamp make_timestamptz make_interval to_timestamp to_date to_char to_number to_tsvector
  lower upper initcap btrim ltrim rtrim concat concat_ws format left right substring replace repeat lpad rpad length md5
  encode decode abs ceil floor round trunc mod power array_fill jsonb_build_object jsonb_build_array json_build_object
  json_build_array to_json to_jsonb`.split(/\s+/),
)

function unsteadyCalls(expression: unknown): string[] {
  const called = findNodes(expression, 'FuncCall').map((call) => wordsOf(call.funcname))
  return called
    .filter((words) => !steady.has(words.at(-1)!) || (words.length > 1 && words[0] !== 'pg_catalog'))
    .map((words) => `${qualified(words)}()`)
}

function notNullScan(column: string | undefined, table: string): Problem {
  const name = constraintName(undefined, table, [column ?? ''], 'present')
  return [
    `Postgres scans all of ${table} for nulls in ${identifier(column)} ${stopsAll}.`,
    'Fill what is null in a backfill. Let a check prove it under a weak lock, and Postgres skips the scan:',
    `-- NNNN_fill.backfill.sql\nupdate ${table} set ${identifier(column)} = … where :batch and ${identifier(column)} is null;`,
    inFiles(
      `alter table ${table} add constraint ${name} check (${identifier(column)} is not null) not valid;`,
      `alter table ${table} validate constraint ${name};\n` +
        `alter table ${table} alter column ${identifier(column)} set not null;\n` +
        `alter table ${table} drop constraint ${name};`,
    ),
  ]
}
