import { createHash } from 'node:crypto'
import { Json } from '../../engines/postgres/values.ts'
import { RungError } from '../../kernel/errors.ts'
import type { Statement } from './contract.ts'

/**
 * A piece of SQL: text with places for values, never with values in it. Pieces nest in each other.
 * Inside `read` and `write` a piece is also a statement: awaiting it runs it and returns its rows.
 */
export class Sql<Row = unknown> implements PromiseLike<Row[]> {
  readonly strings: readonly string[]
  readonly values: readonly unknown[]
  readonly #run: Runner | undefined
  #rows: Promise<Row[]> | undefined
  /** True once it was awaited or became part of another piece. */
  used = false

  constructor(strings: readonly string[], values: readonly unknown[], run?: Runner) {
    this.strings = strings
    this.values = values
    this.#run = run
  }

  /** Runs the statement now (once) and returns its rows. */
  run(): Promise<Row[]> {
    if (!this.#rows) {
      this.used = true
      if (!this.#run) {
        throw new RungError(
          'DATA_STATEMENT',
          'This piece of SQL belongs to no connection. Run it inside data.read or data.write, with the sql given there.',
        )
      }
      this.#rows = this.#run(this) as Promise<Row[]>
    }
    return this.#rows
  }

  /** The first row, or `undefined`. */
  async first(): Promise<Row | undefined> {
    return (await this.run())[0]
  }

  // biome-ignore lint/suspicious/noThenProperty: a statement is awaited like a promise, and runs only then
  then<A = Row[], B = never>(
    onFulfilled?: ((rows: Row[]) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    try {
      return this.run().then(onFulfilled, onRejected)
    } catch (error) {
      return Promise.reject(error).then(onFulfilled, onRejected)
    }
  }
}

/** Text between places for values, and the values. */
export type Piece = Pick<Sql, 'strings' | 'values'>

type Runner = (statement: Piece) => Promise<unknown[]>

/** What `read` and `write` hand to their function. */
export interface SqlTag {
  /** A statement, or a piece of one. Values are always bound; `Row` is what the author says a row looks like. */
  <Row = Record<string, unknown>>(strings: TemplateStringsArray, ...values: unknown[]): Sql<Row>
  /** A quoted identifier; a dot in an argument is part of the name: `sql.id('articles', 'article')`. */
  id(...names: string[]): Sql
  /** Pieces or values with a separator between them (a comma by default). */
  join(items: readonly unknown[], separator?: Sql): Sql
  /** A value as JSON, whatever it is: for columns of the types `json` and `jsonb`, where an array would be a Postgres array. */
  json(value: unknown): Json
  /** Nothing: for the other branch of a condition. */
  readonly empty: Sql
}

function identifier(name: string): string {
  if (name === '' || name.includes('\0'))
    throw new RungError('DATA_STATEMENT', 'An identifier cannot be empty or hold a NUL.')
  return `"${name.replaceAll('"', '""')}"`
}

/** A tag whose pieces run by `run`; without it they only compose. `onPiece` hears of every piece made. */
export function makeTag(run?: Runner, onPiece?: (piece: Sql) => void): SqlTag {
  const tag = (strings: TemplateStringsArray, ...values: unknown[]): Sql => {
    for (const value of values) if (value instanceof Sql) value.used = true
    const piece = new Sql(strings, values, run)
    onPiece?.(piece)
    return piece
  }
  return Object.assign(tag, constants) as SqlTag
}

const constants = {
  id: (...names: string[]): Sql => new Sql([names.map(identifier).join('.')], []),
  join(items: readonly unknown[], separator: Sql = comma): Sql {
    if (items.length === 0) {
      throw new RungError('DATA_STATEMENT', 'sql.join got an empty list; decide what the statement means without it.')
    }
    const values: unknown[] = []
    for (const item of items) {
      if (item instanceof Sql) item.used = true
      if (values.length > 0) values.push(separator)
      values.push(item)
    }
    return new Sql(Array(values.length + 1).fill(''), values)
  },
  json: (value: unknown): Json => new Json(value),
  empty: new Sql([''], []),
}
const comma = new Sql([', '], [])

/** Composes outside a connection: conditions and pieces shared by several statements. */
export const sql: SqlTag = makeTag()

// ── to text ──────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Compiled {
  text: string
  name: string | undefined
}

/** A statement without nested pieces compiles once in the life of the process. */
const flat = new WeakMap<readonly string[], Compiled>()
/** Names of composed statements; bounded, since each is a plan kept on every connection. */
const composed = new Map<string, string>()
const composedMax = 500

function nameOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 20)
}

export function compile(piece: Piece): Statement {
  // Looked at each time: one place in the code may get a value now and a piece the next time.
  if (!piece.values.some((value) => value instanceof Sql)) {
    const known = flat.get(piece.strings)
    if (known) return { text: known.text, name: known.name, values: piece.values, site: piece.strings }
    const text = piece.strings.reduce((all, part, index) => `${all}$${index}${part}`)
    const compiled = { text, name: nameOf(text) }
    flat.set(piece.strings, compiled)
    return { ...compiled, values: piece.values, site: piece.strings }
  }
  const values: unknown[] = []
  const text = flatten(piece, values)
  let name = composed.get(text)
  if (name === undefined && composed.size < composedMax) {
    name = nameOf(text)
    composed.set(text, name)
  }
  return { text, values, name, site: piece.strings }
}

function flatten(piece: Piece, values: unknown[]): string {
  let text = piece.strings[0]!
  for (let index = 0; index < piece.values.length; index += 1) {
    const value = piece.values[index]
    if (value instanceof Sql) text += flatten(value, values)
    else text += `$${values.push(value)}`
    text += piece.strings[index + 1]!
  }
  return text
}
