/**
 * Whose tables does a statement touch? A module owns the Postgres schema named after it, and nobody else writes there:
 * that is what lets its tables move to another database later. Pure: from a parsed statement to the names in it.
 * Names that hide in text (a function's quoted body, `'articles.article'::regclass`) cannot be seen.
 */

export type Access = 'read' | 'write' | 'reference' | 'call'

export interface Touched {
  schema?: string
  table: string
  /** `write` also stands for defining, changing and locking; `reference` for a foreign key or a type. */
  access?: Access
  /** A table or anything read like one, unless said. */
  kind?: 'function' | 'type' | 'schema'
}

export interface Owner {
  module: string
  /** The modules whose tables this one has declared to read. */
  reads: readonly string[]
  /** In a migration an unqualified name is the module's own, since `search_path` is its schema. */
  unqualified?: 'own' | 'refused'
}

export interface Violation extends Touched {
  violation: 'unqualified' | 'undeclared' | 'write'
  message: string
}

/** The Postgres schema of a module: `user-profiles` → `user_profiles`. */
export function schemaOf(module: string): string {
  return module.replaceAll('-', '_')
}

/** Every relation that a statement reads, writes or refers to. Names of CTEs and functions are none. */
export function touchedTables(ast: unknown): Touched[] {
  return touched(ast).filter((name) => name.kind === undefined)
}

/** `touchedTables`, and the functions, types and schemas that it names with their schema. */
export function touched(ast: unknown): Touched[] {
  const found = new Map<string, Touched>()
  for (const name of visit(ast, { ctes: new Set(), access: 'write' })) {
    const key = [name.kind, name.access, name.schema, name.table].join('\0')
    if (!found.has(key)) found.set(key, name)
  }
  return [...found.values()]
}

/** What of it belongs to others and was not declared, each with a sentence that says what to do. */
export function foreignTables(tables: readonly Touched[], owner: Owner): Violation[] {
  const own = schemaOf(owner.module)
  const declared = owner.reads.map(schemaOf)
  return tables.flatMap((name): Violation[] => {
    const { schema, table, access = 'read', kind } = name
    const ofSystem = (schema ?? table).startsWith('pg_') || schema === 'information_schema'
    // Extensions put their functions and types into "public".
    const ofExtension = schema === 'public' && (kind === 'function' || kind === 'type') && access !== 'write'
    if (schema === own || ofSystem || ofExtension) return []
    if (schema === undefined) {
      if (owner.unqualified === 'own') return []
      const message = `"${table}" has no schema, so whose it is depends on the connection: write "${own}.${table}".`
      return [{ ...name, violation: 'unqualified', message }]
    }
    if (access !== 'write' && declared.includes(schema)) return []
    const subject = `Module "${owner.module}" ${verbs[access]} "${schema}.${table}"`
    if (schema === 'public') {
      const message = `${subject}, which belongs to no module. Put it into the schema "${own}".`
      return [{ ...name, violation: 'undeclared', message }]
    }
    const other = schema.replaceAll('_', '-')
    const way =
      access === 'write'
        ? 'Only its owner may: call what that module exposes, or send it an event.'
        : `Call what that module exposes, or declare reads: ['${other}'] (which pins both to one database).`
    const message = `${subject}, which belongs to module "${other}". ${way}`
    return [{ ...name, violation: access === 'write' ? 'write' : 'undeclared', message }]
  })
}

const verbs: Record<Access, string> = { read: 'reads', write: 'writes to', reference: 'refers to', call: 'calls' }

type Fields = Record<string, unknown>

interface Context {
  /** The CTE names in scope. */
  ctes: ReadonlySet<string>
  access: Access
  /** Which relations of the FROM clause `FOR UPDATE` locks: a lock is a write. */
  locked?: ReadonlySet<string> | 'all' | undefined
}

/** A relation below these fields is read or referred to; elsewhere in a statement it is the statement's target. */
const accessBelow: Record<string, Access> = {
  fromClause: 'read',
  usingClause: 'read',
  sourceRelation: 'read',
  larg: 'read',
  rarg: 'read',
  TableLikeClause: 'read',
  pktable: 'reference',
  constrrel: 'reference',
  intoClause: 'write',
  into: 'write',
}

function* visit(node: unknown, context: Context): Generator<Touched> {
  if (Array.isArray(node)) {
    for (const each of node) yield* visit(each, context)
  } else if (typeof node === 'object' && node !== null) {
    const fields = node as Fields
    if (typeof fields.relname === 'string') yield* relation(fields, context)
    else yield* visitFields(fields, context)
  }
}

function* visitFields(fields: Fields, context: Context): Generator<Touched> {
  yield* qualifiedNames(fields)
  yield* namedObjects(fields)
  let { ctes } = context
  if (fields.withClause) {
    // A CTE sees those before it, with RECURSIVE also itself and those after it; the statement sees them all.
    const { ctes: list, recursive } = fields.withClause as { ctes: CteNode[]; recursive?: boolean }
    const names = list.map((cte) => cte.CommonTableExpr.ctename)
    for (const [at, cte] of list.entries()) {
      const visible = recursive ? names : names.slice(0, at)
      yield* visit(cte.CommonTableExpr.ctequery, { ctes: new Set([...ctes, ...visible]), access: 'read' })
    }
    ctes = new Set([...ctes, ...names])
  }
  for (const [key, value] of Object.entries(fields)) {
    if (key === 'withClause' || key === 'lockedRels' || (key === 'objects' && 'removeType' in fields)) continue
    const access = accessBelow[key] ?? (key.endsWith('Stmt') ? accessOfStatement(key, value) : context.access)
    const locked = key === 'fromClause' ? (lockedBy(fields) ?? context.locked) : context.locked
    yield* visit(value, { ctes, access, locked })
  }
}

type CteNode = { CommonTableExpr: { ctename: string; ctequery: unknown } }

function accessOfStatement(tag: string, fields: unknown): Access {
  return tag === 'CopyStmt' && !(fields as Fields).is_from ? 'read' : 'write'
}

function* relation(fields: Fields, { ctes, access, locked }: Context): Generator<Touched> {
  const { relname: table, schemaname: schema } = fields as { relname: string; schemaname?: string }
  if (fields.relpersistence === 't') return // a temporary table is nobody's
  // The target of INSERT, UPDATE or DELETE is a table even where a CTE has its name.
  if (schema === undefined && access === 'read' && ctes.has(table)) return
  const name = (fields.alias as { aliasname?: string } | undefined)?.aliasname ?? table
  const isLocked = access === 'read' && (locked === 'all' || locked?.has(name))
  yield { ...(schema === undefined ? {} : { schema }), table, access: isLocked ? 'write' : access }
}

function lockedBy(select: Fields): Context['locked'] {
  if (!Array.isArray(select.lockingClause)) return undefined
  const clauses = select.lockingClause.map((clause) => clause.LockingClause.lockedRels)
  if (clauses.includes(undefined)) return 'all'
  return new Set(clauses.flat().map((locked) => locked.RangeVar.relname))
}

/** Fields that hold the name of a function or type as a list of words. */
const nameFields: Record<string, Access> = {
  funcname: 'call',
  names: 'reference',
  typeName: 'write',
  domainname: 'write',
  defnames: 'write',
  objname: 'write',
}

function* qualifiedNames(fields: Fields): Generator<Touched> {
  for (const [field, usual] of Object.entries(nameFields)) {
    const words = wordsOf(fields[field])
    if (words.length < 2 || words.at(-2) === 'pg_catalog') continue
    // CREATE FUNCTION has a name just as a call and a trigger have.
    const defines = field === 'funcname' && !('funcformat' in fields || 'trigname' in fields)
    const kind = usual === 'call' ? 'function' : 'type'
    yield { schema: words.at(-2)!, table: words.at(-1)!, access: defines ? 'write' : usual, kind }
  }
}

/** What DROP, COMMENT, GRANT, RENAME, SET SCHEMA and CREATE SCHEMA are about. */
function* namedObjects(fields: Fields): Generator<Touched> {
  const about = String(fields.removeType ?? fields.objtype ?? fields.renameType ?? fields.objectType ?? '')
  // A column, trigger, rule, policy or constraint is named after its table.
  const ofTable = /_(COLUMN|TRIGGER|RULE|POLICY|TABCONSTRAINT)$/.test(about)
  const isTable = ofTable || /_(TABLE|VIEW|MATVIEW|INDEX|SEQUENCE)$/.test(about)
  const objects = [fields.objects ?? fields.object ?? []].flat()
  const schemas = [fields.newschema, (fields.CreateSchemaStmt as Fields | undefined)?.schemaname]
  if (about === 'OBJECT_SCHEMA') schemas.push(fields.subname, ...objects.map((object) => wordsOf(object)[0]))
  for (const schema of schemas) {
    if (typeof schema === 'string') yield { schema, table: '*', access: 'write', kind: 'schema' }
  }
  for (const object of objects) {
    const [table, schema] = wordsOf(object)
      .reverse()
      .slice(ofTable ? 1 : 0)
    const named = { ...(schema === undefined ? {} : { schema }), access: 'write' as const }
    if (table !== undefined && isTable) yield { ...named, table }
    else if (table !== undefined && schema !== undefined) yield { ...named, table, kind: 'type' }
  }
}

/** The words of a qualified name, in whichever node it comes. */
export function wordsOf(value: unknown): string[] {
  const { List: list, TypeName: type, ObjectWithArgs: called } = (value ?? {}) as Record<string, Fields | undefined>
  const words = list?.items ?? type?.names ?? called?.objname ?? value
  return [words].flat().flatMap((word) => (word as { String?: { sval: string } } | undefined)?.String?.sval ?? [])
}
