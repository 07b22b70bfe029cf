import { findNodes, type SqlNode, type SqlNodes } from '../engines/postgres/parser.ts'
import { wordsOf } from '../primitives/data/boundary.ts'
import type { Column, Table } from './facts.ts'

/** One table as a statement uses it; a self-join has two. */
export interface Source {
  table: Table
  /** The name that the statement uses. */
  alias: string
  aliased: boolean
  /** Where its name begins, in bytes, as the parser counts. */
  at: number
  /** Compared with a value by `=`, `in`, `= any` or `is null`; or a boolean by itself. */
  equal: Key[]
  /** Compared with a column of another table. */
  joined: Key[]
  range: RangeKey[]
  /** Searched with `@>`, `&&`, `?` or `@@`. */
  contained: Key[]
  /** What the result is sorted by, if all of it belongs to this table. */
  sort: SortKey[]
}

/** A column or a function of one column, as an index would contain it. */
export interface Key {
  sql: string
  column: Column
}
export type RangeKey = Key & { side: 'above' | 'below' }
export type SortKey = Key & { descending: boolean; nulls: 'first' | 'last' | undefined }

export interface Needs {
  sources: Source[]
  /** The rows found are exactly the rows of the result, so their number tells how selective the filter is. */
  plain: boolean
  /** Where the first condition of a plain statement begins. */
  where: number | undefined
}

export type FindTable = (schema: string | undefined, name: string) => Table | undefined

type Fields = Record<string, unknown>

interface QueryScope {
  /** By alias; undefined for a subquery, a CTE or a function. */
  sources: Map<string, Source | undefined>
  ctes: ReadonlySet<string>
  outer: QueryScope | undefined
}

const statements = new Set(['SelectStmt', 'InsertStmt', 'UpdateStmt', 'DeleteStmt'])

/**
 * Returns what a statement needs from each table that it reads in order to find its rows: the columns that it compares, joins and
 * sorts by. What is not certain (a column that may come from a subquery, one side of an OR) is left out. Pure.
 */
export function needsOf(ast: SqlNode, find: FindTable): Needs {
  const sources: Source[] = []
  /** The selects of `x in (select y …)`: y is compared too. */
  const compared = new Set<unknown>()
  visit(ast, undefined)
  const [[tag, fields]] = Object.entries(ast) as [[string, Fields]]
  const plain = sources.length === 1 && isPlain(tag, fields)
  return { sources, plain, where: plain ? firstPlace(fields.whereClause) : undefined }

  function visit(node: unknown, scope: QueryScope | undefined): void {
    if (typeof node !== 'object' || node === null) return
    for (const [key, value] of Object.entries(node)) {
      if (statements.has(key)) query(value as Fields, scope)
      else visit(value, scope)
    }
  }

  function query(fields: Fields, outer: QueryScope | undefined): void {
    const withClause = fields.withClause as SqlNodes['WithClause'] | undefined
    const names = findNodes(withClause?.ctes, 'CommonTableExpr').map((cte) => cte.ctename!)
    const ctes = new Set([...(outer?.ctes ?? []), ...names])
    visit(withClause, { sources: new Map(), ctes, outer })
    if (fields.larg) {
      for (const side of [fields.larg, fields.rarg]) query(side as Fields, { sources: new Map(), ctes, outer })
      return
    }
    const scope: QueryScope = { sources: new Map(), ctes, outer }
    const conditions: unknown[] = [fields.whereClause]
    const isTarget = 'relation' in fields && !('selectStmt' in fields) // an INSERT searches no rows of its table
    if (isTarget) from({ RangeVar: fields.relation }, scope, conditions)
    for (const item of [fields.fromClause ?? fields.usingClause ?? []].flat()) from(item, scope, conditions)
    for (const condition of conditions) consider(condition, scope)
    if (!fields.groupClause && !fields.distinctClause) sort(fields, scope)
    if (compared.has(fields)) {
      const [target] = findNodes((fields.targetList as unknown[])[0], 'ResTarget')
      const found = keyOf(target?.val, scope)
      found?.source.joined.push(found.key)
    }
    for (const [key, value] of Object.entries(fields)) {
      if (!/^(withClause|fromClause|usingClause)$/.test(key)) visit(value, scope) // visited above
    }
    visit(conditions.slice(1), scope)
  }

  function from(item: unknown, scope: QueryScope, conditions: unknown[]): void {
    const { RangeVar: named, JoinExpr: join, ...other } = item as Partial<SqlNodes>
    if (named) {
      const { schemaname: schema, relname: name = '' } = named
      const alias = named.alias?.aliasname ?? name
      const table = schema === undefined && scope.ctes.has(name) ? undefined : find(schema, name)
      const lists = { equal: [], joined: [], range: [], contained: [], sort: [] }
      const source = table && { table, alias, aliased: named.alias !== undefined, at: named.location ?? 0, ...lists }
      if (source) sources.push(source)
      scope.sources.set(alias, source)
    } else if (join) {
      from(join.larg, scope, conditions)
      from(join.rarg, scope, conditions)
      conditions.push(join.quals)
      for (const name of wordsOf(join.usingClause)) {
        for (const source of scope.sources.values()) {
          const column = source?.table.columns.find((one) => one.name === name)
          if (column) source?.joined.push({ sql: column.sql, column })
        }
      }
    } else {
      for (const { alias } of Object.values(other) as { alias?: { aliasname?: string } }[]) {
        scope.sources.set(alias?.aliasname ?? '', undefined)
      }
      visit(other, scope)
    }
  }

  /** Considers a condition that every row of the result meets. */
  function consider(condition: unknown, scope: QueryScope): void {
    const { BoolExpr: logic, A_Expr: compare, NullTest: test, SubLink: link } = (condition ?? {}) as Partial<SqlNodes>
    if (logic?.boolop === 'AND_EXPR') for (const each of logic.args ?? []) consider(each, scope)
    else if (logic?.boolop === 'NOT_EXPR') add('equal', columnOf(logic.args?.[0], scope))
    else if (compare) compareSides(compare, scope)
    else if (test?.nulltesttype === 'IS_NULL') add('equal', keyOf(test.arg, scope))
    else if (link?.subLinkType === 'ANY_SUBLINK' && !link.operName) {
      add('joined', keyOf(link.testexpr, scope))
      compared.add((link.subselect as { SelectStmt?: unknown } | undefined)?.SelectStmt)
    } else add('equal', columnOf(condition, scope))
  }

  function add(list: 'equal' | 'joined' | 'contained', found: SourceKey | undefined): void {
    found?.source[list].push(found.key)
  }

  function compareSides({ kind, name, lexpr, rexpr }: SqlNodes['A_Expr'], scope: QueryScope): void {
    const [operator = ''] = wordsOf(name)
    const left = keyOf(lexpr, scope)
    if (kind === 'AEXPR_IN' || kind === 'AEXPR_OP_ANY') {
      if (operator === '=') add('equal', left)
    } else if (kind === 'AEXPR_BETWEEN') {
      left?.source.range.push({ ...left.key, side: 'above' })
    } else if (kind === 'AEXPR_OP' && /^(=|<|<=|>|>=)$/.test(operator)) {
      for (const [found, other, isLeft] of [
        [left, rexpr, true],
        [keyOf(rexpr, scope), lexpr, false],
      ] as const) {
        const others = sourcesIn(other, scope)
        if (!found || others.has(found.source)) continue
        if (operator === '=') add(others.size > 0 ? 'joined' : 'equal', found)
        else found.source.range.push({ ...found.key, side: operator.startsWith('>') === isLeft ? 'above' : 'below' })
      }
    } else if (kind === 'AEXPR_OP' && /^(@>|&&|\?|\?\||\?&|@@)$/.test(operator)) add('contained', left)
  }

  function sort(fields: Fields, scope: QueryScope): void {
    const targets = findNodes(fields.targetList, 'ResTarget')
    const keys = findNodes(fields.sortClause, 'SortBy').map(({ node, sortby_dir: direction, sortby_nulls: nulls }) => {
      const place = (node as Partial<SqlNodes>)?.A_Const?.ival?.ival
      const [word, more] = wordsOf((node as Partial<SqlNodes>)?.ColumnRef?.fields)
      const target = place === undefined ? targets.find((one) => !more && one.name === word) : targets[place - 1]
      const found = keyOf(target?.val ?? node, scope)
      return (
        found && {
          source: found.source,
          ...found.key,
          descending: direction === 'SORTBY_DESC',
          nulls: ({ SORTBY_NULLS_FIRST: 'first', SORTBY_NULLS_LAST: 'last' } as const)[nulls as 'SORTBY_NULLS_LAST'],
        }
      )
    })
    const source = keys[0]?.source
    if (source && keys.every((key) => key?.source === source)) {
      source.sort = keys.map((key) => ({ ...key! }))
    }
  }
}

interface SourceKey {
  source: Source
  key: Key
}

/** Returns a column, or a function of one column (`lower(email)`), if its table is certain. */
function keyOf(node: unknown, scope: QueryScope): SourceKey | undefined {
  const call = (node as Partial<SqlNodes> | undefined)?.FuncCall
  if (!call) return columnOf(node, scope)
  const [name = '', more] = wordsOf(call.funcname)
  const found = call.args?.length === 1 ? columnOf(call.args[0], scope) : undefined
  if (!found || more !== undefined || !/^[a-z_][a-z0-9_]*$/.test(name)) return undefined
  return { source: found.source, key: { ...found.key, sql: `${name}(${found.key.sql})` } }
}

function columnOf(node: unknown, scope: QueryScope): SourceKey | undefined {
  const words = wordsOf((node as Partial<SqlNodes> | undefined)?.ColumnRef?.fields)
  const name = words.at(-1)
  if (name === undefined) return undefined
  for (let level: QueryScope | undefined = scope; level; level = level.outer) {
    const candidates = words.length === 1 ? [...level.sources.values()] : [level.sources.get(words.at(-2)!)]
    const found = candidates.flatMap((source) => {
      const column = source?.table.columns.find((one) => one.name === name)
      return source && column ? [{ source, key: { sql: column.sql, column } }] : []
    })
    if (found.length === 1) return found[0]
    const isHere = words.length > 1 && level.sources.has(words.at(-2)!)
    const mayBeHere = words.length === 1 && candidates.includes(undefined)
    if (found.length > 1 || isHere || mayBeHere) return undefined
  }
  return undefined
}

function sourcesIn(node: unknown, scope: QueryScope): Set<Source> {
  const columns = findNodes(node, 'ColumnRef').map((ColumnRef) => columnOf({ ColumnRef }, scope)?.source)
  return new Set(columns.filter((source) => source !== undefined))
}

function isPlain(tag: string, fields: Fields): boolean {
  const others = [fields.fromClause ?? [], fields.usingClause ?? []].flat().length > (tag === 'SelectStmt' ? 1 : 0)
  const nested = findNodes(fields, 'SelectStmt').length + findNodes(fields, 'JoinExpr').length > 0
  if (others || nested || fields.whereClause === undefined) return false
  if (tag !== 'SelectStmt') return tag === 'UpdateStmt' || tag === 'DeleteStmt'
  const aggregates = findNodes(fields.targetList, 'FuncCall').some((call) => {
    return (
      call.agg_star || call.over || /^(count|sum|avg|min|max|\w+_agg|bool_\w+)$/.test(wordsOf(call.funcname).at(-1)!)
    )
  })
  const shaping = ['limitCount', 'limitOffset', 'groupClause', 'distinctClause', 'havingClause', 'larg']
  return !aggregates && !shaping.some((name) => name in fields)
}

function firstPlace(tree: unknown): number | undefined {
  if (typeof tree !== 'object' || tree === null) return undefined
  const places = Object.entries(tree).map(([key, value]) =>
    key === 'location' ? (value as number) : firstPlace(value),
  )
  const known = places.filter((place) => place !== undefined && place >= 0) as number[]
  return known.length > 0 ? Math.min(...known) : undefined
}
