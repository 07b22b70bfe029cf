import { types } from 'node:util'
import { RungError } from '../../kernel/errors.ts'

/**
 * Converts values between JavaScript and Postgres: exactly, or with an error that says what to write. A type without an equivalent
 * in JavaScript (`numeric`, `date`, `timestamp`, `interval`, ranges, composites …) is text as Postgres writes and reads it. Nothing
 * depends on the process's time zone.
 */

// ── from JavaScript ──────────────────────────────────────────────────────────────────────────────────────────────────

/** JSON text, made by `sql.json`. */
export class Json {
  readonly #text: string

  constructor(value: unknown) {
    let text: string | undefined
    try {
      text = JSON.stringify(value)
    } catch (cause) {
      throw unsendable('A value cannot be written as JSON: it contains itself, or a bigint.', cause)
    }
    if (text === undefined) throw unsendable(`${nameOf(value)} cannot be written as JSON.`)
    this.#text = text
  }

  /** `pg` calls a method of this name. */
  toPostgres(): string {
    return this.#text
  }
}

/**
 * Encodes a parameter of a statement. `Uint8Array`, `Buffer`, `DataView` and `ArrayBuffer` are bytes, a `Date` is an instant, an
 * array is a Postgres array, and a plain object is JSON.
 * @throws DATA_VALUE for a text or date that no column can hold, DATA_STATEMENT for a value without an equivalent in Postgres
 */
export function encode(value: unknown): string | Buffer | null {
  switch (typeof value) {
    case 'string':
      return wellFormed(value)
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value)
    case 'boolean':
    case 'bigint':
      return String(value)
    case 'undefined':
      return null
    case 'object':
      return value === null ? null : encodeObject(value)
    default:
      throw unsendable(`${nameOf(value)} cannot be sent to Postgres.`)
  }
}

function encodeObject(value: object): string | Buffer | null {
  const bytes = bytesOf(value)
  if (bytes) return bytes
  if (types.isDate(value)) return instant(value)
  // A form feed is white space in arrays but not in JSON, so an empty array for a JSON column is refused, not stored as `{}`.
  if (Array.isArray(value)) return value.length === 0 ? '\f{}' : arrayText(value)
  const { toPostgres } = value as { toPostgres?: unknown }
  if (typeof toPostgres === 'function') return encode(toPostgres.call(value, encode))
  return jsonOf(value)
}

function bytesOf(value: object): Buffer | undefined {
  if (types.isAnyArrayBuffer(value)) return Buffer.from(value)
  if (!ArrayBuffer.isView(value)) return undefined
  if (types.isUint8Array(value) || types.isUint8ClampedArray(value) || types.isDataView(value)) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  }
  throw unsendable(
    `${nameOf(value)} could mean its bytes or its numbers. Write new Uint8Array(value.buffer) or Array.from(value).`,
  )
}

/** In UTC, so that a column without a time zone does not depend on the process's zone. */
function instant(date: Date): string {
  if (Number.isNaN(date.getTime())) throw new RungError('DATA_VALUE', 'A date is invalid.')
  const year = date.getUTCFullYear()
  const rest = date.toISOString().slice(-20, -1) // -MM-DDTHH:MM:SS.mmm
  return `${String(year > 0 ? year : 1 - year).padStart(4, '0')}${rest}+00:00${year > 0 ? '' : ' BC'}`
}

function arrayText(items: readonly unknown[]): string {
  const parts: string[] = []
  for (let at = 0; at < items.length; at += 1) {
    const item = items[at]
    if (Array.isArray(item)) parts.push(arrayText(item))
    else {
      const text = encode(item)
      if (text === null) parts.push('NULL')
      else if (typeof text === 'string') parts.push(`"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`)
      else parts.push(`"\\\\x${text.toString('hex')}"`)
    }
  }
  return `{${parts.join(',')}}`
}

function jsonOf(value: object): string {
  const json = new Json(value).toPostgres()
  if (json.startsWith('"')) {
    throw unsendable(`${nameOf(value)} could mean a text or JSON. Write String(value) or sql.json(value).`)
  }
  const prototype = Object.getPrototypeOf(value)
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null
  const isPromise = typeof (value as { then?: unknown }).then === 'function'
  if (isPromise || types.isNativeError(value) || (json === '{}' && !isPlain)) {
    throw unsendable(`${nameOf(value)} has no equivalent in Postgres. Pass its content as a plain value.`)
  }
  return json
}

function wellFormed(text: string): string {
  if (text.isWellFormed()) return text
  throw new RungError('DATA_VALUE', 'A text contains half a character (a lone surrogate), which Postgres cannot store.')
}

function unsendable(message: string, cause?: unknown): RungError {
  return new RungError('DATA_STATEMENT', message, { cause })
}

function nameOf(value: unknown): string {
  if (value === null || typeof value !== 'object') return `A value of the type ${typeof value}`
  return `A value of the class ${(value.constructor as { name?: string } | undefined)?.name ?? 'Object'}`
}

// ── to JavaScript ────────────────────────────────────────────────────────────────────────────────────────────────────

type Parser = (text: string) => unknown

const asText: Parser = (text) => text

function integer(text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value)) return value
  throw unreadable(`the bigint ${text} does not fit a JavaScript number`)
}

function json(text: string): unknown {
  // Only a number with this many digits can lose one.
  return JSON.parse(text, /\d{16}/.test(text) ? keepIntegers : undefined)
}

function keepIntegers(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source
  if (typeof value === 'number' && source && /^-?\d{16,}$/.test(source) && digitsOf(source) !== digitsOf(value)) {
    throw unreadable(`the number ${source} in a JSON value does not fit a JavaScript number`)
  }
  return value
}

/** The significant digits of an integer. JavaScript writes only those that distinguish a large one from its neighbours. */
function digitsOf(number: string | number): string {
  const text = typeof number === 'number' ? number.toExponential().replace(/e.*/, '') : number
  return text.replace('.', '').replace(/0+$/, '')
}

const isoTime =
  /^(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,3})\d*)?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?( BC)?$/

/** Parses an instant, to the millisecond; `infinity` becomes the number. */
function time(text: string): Date | number {
  const parts = isoTime.exec(text)
  if (!parts) {
    if (text === 'infinity') return Number.POSITIVE_INFINITY
    if (text === '-infinity') return Number.NEGATIVE_INFINITY
    throw unreadable(`the time ${text} is not written in ISO form (the setting DateStyle)`)
  }
  const [, year, month, day, hours, minutes, seconds, fraction = '', sign, ...zone] = parts
  const [zoneHours, zoneMinutes = 0, zoneSeconds = 0] = zone.slice(0, 3)
  const date = new Date(0)
  date.setUTCFullYear(parts[12] ? 1 - Number(year) : Number(year), Number(month) - 1, Number(day))
  date.setUTCHours(Number(hours), Number(minutes), Number(seconds), Number(fraction.padEnd(3, '0')))
  const offsetMs = ((Number(zoneHours) * 60 + Number(zoneMinutes)) * 60 + Number(zoneSeconds)) * 1000
  date.setTime(date.getTime() + (sign === '-' ? offsetMs : -offsetMs))
  if (Number.isNaN(date.getTime())) throw unreadable(`the time ${text} does not fit a JavaScript Date`)
  return date
}

function bytes(text: string): Buffer {
  if (text.startsWith('\\x')) return Buffer.from(text.slice(2), 'hex')
  throw unreadable('bytes are not written in hexadecimal form (the setting bytea_output)')
}

function unreadable(what: string): RungError {
  return new RungError('DATA_STATEMENT', `A value cannot be read: ${what}. Select it as text (column::text).`)
}

/** Types that have an equivalent in JavaScript, by their OID in `pg_type`. */
const parsers: Record<number, Parser> = {
  16: (text) => text === 't',
  17: bytes,
  20: integer,
  21: Number,
  23: Number,
  26: Number,
  114: json,
  700: Number,
  701: Number,
  1184: time,
  3802: json,
}

/** Built-in types and the types of their arrays with a comma between elements (`select oid, typarray from pg_type`). */
const arrays: Record<number, number> = Object.fromEntries(
  `16 1000 17 1001 18 1002 19 1003 20 1016 21 1005 22 1006 23 1007 24 1008 25 1009 26 1028 27 1010 28 1011 29 1012 30 1013
  114 199 142 143 600 1017 601 1018 602 1019 604 1027 628 629 650 651 700 1021 701 1022 718 719 774 775 790 791 829 1040
  869 1041 1033 1034 1042 1014 1043 1015 1082 1182 1083 1183 1114 1115 1184 1185 1186 1187 1266 1270 1560 1561 1562 1563
  1700 1231 1790 2201 2202 2207 2203 2208 2204 2209 2205 2210 2206 2211 2950 2951 2970 2949 3220 3221 3614 3643 3615 3645
  3642 3644 3734 3735 3769 3770 3802 3807 3904 3905 3906 3907 3908 3909 3910 3911 3912 3913 3926 3927 4072 4073 4089 4090
  4096 4097 4191 4192 4451 6150 4532 6151 4533 6152 4534 6153 4535 6155 4536 6157 5038 5039 5069 271`
    .split(/\s+/)
    .flatMap((oid, at, all) => (at % 2 === 1 ? [[oid, Number(all[at - 1])]] : [])),
)

for (const [array, element] of Object.entries(arrays)) {
  const parse = parsers[element] ?? asText
  parsers[Number(array)] = (text) => arrayOf(text, parse)
}

export function parserOf(oid: number): Parser {
  return parsers[oid] ?? asText
}

/** Parses an array (PostgreSQL documentation, "Array Input and Output Syntax"); lower bounds are ignored. */
function arrayOf(text: string, parse: Parser): unknown[] {
  let at = text.startsWith('[') ? text.indexOf('=') + 1 : 0

  function list(): unknown[] {
    const items: unknown[] = []
    at += 1
    while (text[at] !== '}') {
      if (text[at] === ',') at += 1
      if (text[at] === '{') items.push(list())
      else if (text[at] === '"') items.push(parse(quoted()))
      else items.push(bare())
    }
    at += 1
    return items
  }

  function quoted(): string {
    let word = ''
    for (at += 1; ; at += 1) {
      const from = at
      while (text[at] !== '"' && text[at] !== '\\') at += 1
      word += text.slice(from, at)
      if (text[at++] === '"') return word
      word += text[at]
    }
  }

  function bare(): unknown {
    const from = at
    while (text[at] !== ',' && text[at] !== '}') at += 1
    const word = text.slice(from, at)
    return word === 'NULL' ? null : parse(word)
  }

  return list()
}
