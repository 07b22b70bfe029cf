import type { TSchema } from 'typebox'
import type { CallSchema, CallSchemas } from './calls.ts'
import type { App } from './define-app.ts'

/** A JSON Schema, as far as it is understood here. */
interface Json {
  readonly [keyword: string]: unknown
  readonly type?: string
  readonly properties?: Readonly<Record<string, Json>>
  readonly required?: readonly string[]
  readonly items?: Json
  readonly anyOf?: readonly Json[]
}

/**
 * Returns why processes of two builds could not call each other, one sentence for each call. While a deploy goes on, both builds run, and each
 * calls the other: so each must accept what the other one sends and returns. A call that only one of them has is no reason, unless it is
 * the former one: its callers still run. Pure.
 */
export function incompatibleCalls(before: Pick<App, 'modules'>, next: Pick<App, 'modules'>): string[] {
  const schemasOf = ({ modules }: Pick<App, 'modules'>) =>
    new Map(modules.map((module) => [module.name, (module.exposes?.schemas ?? {}) as CallSchemas]))
  const [old, present] = [schemasOf(before), schemasOf(next)]
  return [...old].flatMap(([module, calls]) =>
    Object.entries(calls).flatMap(([name, call]) => {
      const other = present.get(module)?.[name]
      const named = `${module}.${name}`
      if (!other)
        return [
          `${named} is gone, and processes of the build before still call it. Remove it one deploy after its last caller.`,
        ]
      const why = whyNot(call, other)
      return why === undefined ? [] : [`${named}: ${why}`]
    }),
  )
}

function whyNot(before: CallSchema, next: CallSchema): string | undefined {
  for (const side of ['input', 'output'] as const) {
    const why = whyNotBoth(before[side], next[side])
    if (why !== undefined)
      return `its ${side} ${why}. What is added must be optional in this deploy, and what is removed must have been optional in the one before.`
  }
  return undefined
}

function whyNotBoth(one: TSchema, other: TSchema): string | undefined {
  return whyNotRead(one as Json, other as Json, '') ?? whyNotRead(other as Json, one as Json, '')
}

/** What only describes a value. */
const notes = new Set(['title', 'description', 'default', 'examples', '$id', '$comment'])

/** Returns why a reader with one schema may refuse what a writer with the other one writes. Not understood and different is a reason. */
function whyNotRead(reader: Json, writer: Json, at: string): string | undefined {
  if (textOf(reader) === textOf(writer) || accepts(reader)) return undefined
  const place = at === '' ? '' : ` at ${at}`
  if (writer.anyOf) {
    return writer.anyOf.map((one) => whyNotRead(reader, one, at)).find((why) => why !== undefined)
  }
  if (reader.anyOf) {
    const isRead = reader.anyOf.some((one) => whyNotRead(one, writer, at) === undefined)
    return isRead ? undefined : `has another form${place}`
  }
  if (reader.type === 'object' && writer.type === 'object') return whyNotObject(reader, writer, at)
  if (reader.type === 'array' && writer.type === 'array' && textOf(without(reader)) === textOf(without(writer)))
    return whyNotRead(reader.items ?? {}, writer.items ?? {}, `${at}[]`)
  const isNumber = reader.type === 'number' && writer.type === 'integer'
  const [plain, narrower] = [onlyType(reader), reader.type === writer.type]
  return plain && (narrower || isNumber) ? undefined : `has another form${place}`
}

function whyNotObject(reader: Json, writer: Json, at: string): string | undefined {
  const { properties: wanted = {}, required = [] } = reader
  const { properties: written = {}, required: sure = [] } = writer
  const missing = required.find((name) => !sure.includes(name))
  if (missing !== undefined) return `needs ${at}.${missing}, which the other build may leave out`
  const unknown = Object.keys(written).find((name) => !Object.hasOwn(wanted, name))
  if (reader.additionalProperties === false && unknown !== undefined)
    return `refuses ${at}.${unknown}, which the other build writes`
  for (const [name, schema] of Object.entries(wanted)) {
    if (!Object.hasOwn(written, name)) continue
    const why = whyNotRead(schema, written[name]!, `${at}.${name}`)
    if (why !== undefined) return why
  }
  return undefined
}

/** Whether it accepts any value. */
const accepts = (schema: Json) => Object.keys(schema).every((keyword) => notes.has(keyword))
const onlyType = (schema: Json) => Object.keys(schema).every((keyword) => keyword === 'type' || notes.has(keyword))

function without({ items: _, ...others }: Json): Json {
  return others
}

function textOf(schema: Json): string {
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted)
    if (typeof value !== 'object' || value === null) return value
    const entries = Object.entries(value).filter(([keyword]) => !notes.has(keyword))
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, one]) => [name, sorted(one)]))
  }
  return JSON.stringify(sorted(schema))
}
