import fc from 'fast-check'

/** As much of OpenAPI 3.1 and JSON Schema as requests are made of. */
export interface Schema {
  $ref?: string
  type?: string | string[]
  const?: unknown
  enum?: unknown[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  minItems?: number
  maxItems?: number
  format?: string
  pattern?: string
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
}

interface Media {
  schema?: Schema
}

interface Parameter {
  $ref?: string
  name: string
  in: 'path' | 'query' | 'header' | 'cookie'
  required?: boolean
  schema?: Schema
}

interface Body {
  $ref?: string
  content?: Record<string, Media>
}

export interface Responses {
  [status: string]: { $ref?: string; content?: Record<string, Media> }
}

interface PathItem {
  parameters?: Parameter[]
  [method: string]: unknown
}

export interface Document {
  openapi: string
  servers?: { url: string }[]
  paths: Record<string, PathItem>
}

export interface Operation {
  /** `POST /articles/{slug}/favorite`. */
  name: string
  method: string
  path: string
  parameters: Parameter[]
  body: Body | undefined
  responses: Responses
  /** Where the document keeps this operation, as a JSON pointer. */
  pointer: string
}

export interface AnyRequest {
  method: string
  /** Path and query, percent-encoded. */
  url: string
  headers: Record<string, string>
  content: string | undefined
  /** Which token to send: the good one, none, or what `headers` say. */
  token: 'good' | 'none' | 'in headers'
}

/** Values that exist in the app, by the name of the parameter or property that takes them. */
export type Known = Record<string, string>

const methods = ['get', 'post', 'put', 'patch', 'delete']

/** Follows a reference within the document. */
export function resolve<T extends { $ref?: string }>(document: Document, value: T): T {
  if (value.$ref === undefined) return value
  const steps = value.$ref.replace(/^#\//, '').split('/')
  const unescaped = steps.map((step) => decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~'))
  const found = unescaped.reduce<unknown>((at, step) => (at as Record<string, unknown>)[step], document)
  return resolve(document, found as T)
}

export function operationsOf(document: Document): Operation[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    methods
      .filter((method) => item[method] !== undefined)
      .map((method) => {
        const operation = item[method] as { parameters?: Parameter[]; requestBody?: Body; responses?: Responses }
        const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])]
        return {
          name: `${method.toUpperCase()} ${path}`,
          method: method.toUpperCase(),
          path,
          parameters: parameters.map((parameter) => resolve(document, parameter)),
          body: operation.requestBody && resolve(document, operation.requestBody),
          responses: operation.responses ?? {},
          pointer: `/paths/${path.replaceAll('~', '~0').replaceAll('/', '~1')}/${method}`,
        }
      }),
  )
}

const oddTexts = [
  ...['', ' ', '\u0000', 'a\u0000b', '\ud800', '\r\n', '%00', '%', '..', '/', '\\', "' or 1=1 --", '"', '<script>'],
  ...['{{7*7}}', '🙂', 'e\u0301', '\u202e', '\uFEFF', 'null', 'undefined', 'NaN', '-1', '1e999', '0x10', '1,2'],
  ...['__proto__', 'constructor', 'x'.repeat(300), 'x'.repeat(5000), '🙂'.repeat(200)],
]
const oddValues = [null, true, false, 0, -0, -1, 1.5, 2 ** 31, 2 ** 53, -(2 ** 63), 1e308, 5e-324, [], {}, [[]], [null]]

const oddText = fc.oneof(fc.constantFrom(...oddTexts), fc.string({ unit: 'binary', maxLength: 60 }))
const oddValue: fc.Arbitrary<unknown> = fc.oneof(fc.constantFrom<unknown>(...oddValues), oddText, fc.jsonValue())

/** What HTTP lets a header hold: visible Latin-1 and, inside, spaces. */
const headerText = fc
  .string({ unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)), maxLength: 80 })
  .map((text) => text.replace(/[\x7f-\xa0]/g, '~').trim())

const headerNames = [
  ...['accept', 'accept-language', 'authorization', 'baggage', 'content-type', 'cookie', 'forwarded', 'from'],
  ...['idempotency-key', 'if-modified-since', 'origin', 'prefer', 'range', 'referer', 'traceparent', 'tracestate'],
  ...['user-agent', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-http-method-override'],
  ...['x-request-id', 'x-unheard-of'],
]

function validText(schema: Schema): fc.Arbitrary<string> {
  const { minLength = 0, maxLength = 3000 } = schema
  if (schema.format === 'email') return fc.stringMatching(/^[a-z0-9]{6,20}$/).map((local) => `${local}@example.com`)
  if (schema.format === 'date-time') {
    return fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(2e12) }).map((date) => date.toISOString())
  }
  if (schema.format === 'uuid') return fc.uuid()
  if (schema.format === 'uri') return fc.webUrl()
  if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern, 'u'))
  const usual = fc.string({ unit: 'grapheme', minLength, maxLength: Math.min(maxLength, minLength + 40) })
  const extreme = fc.constantFrom(minLength, Math.min(maxLength, 10_000)).map((length) => 'x'.repeat(length))
  return fc.oneof({ arbitrary: usual, weight: 5 }, { arbitrary: extreme, weight: 1 })
}

function validInteger({ minimum = -(2 ** 53) + 1, maximum = 2 ** 53 - 1 }: Schema): fc.Arbitrary<number> {
  const usual = fc.integer({ min: Math.max(minimum, -1000), max: Math.min(maximum, 100_000) })
  const bounds = [minimum, maximum, 0, 2 ** 31 - 1, 2 ** 31].filter((value) => value >= minimum && value <= maximum)
  return fc.oneof({ arbitrary: usual, weight: 2 }, { arbitrary: fc.constantFrom(...bounds), weight: 1 })
}

/** Values that the schema allows, or `known` ones. */
function valid(document: Document, asked: Schema, known: Known, name = ''): fc.Arbitrary<unknown> {
  const schema = { ...resolve(document, asked), ...(name === 'email' ? { format: 'email' } : {}) }
  const inner = (part: Schema, partName = name) => valid(document, part, known, partName)
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return fc.oneof(...choices.map((choice) => inner(choice)))
  if (schema.allOf) return inner(Object.assign({}, schema, { allOf: undefined }, ...schema.allOf))
  if (Array.isArray(schema.type)) return fc.oneof(...schema.type.map((type) => inner({ ...schema, type })))
  if (known[name] !== undefined && schema.type !== 'object' && schema.type !== 'array') {
    const value = schema.type === 'integer' ? Number(known[name]) : known[name]
    return fc.oneof(fc.constant(value), inner(schema, ''))
  }
  switch (schema.type) {
    case 'string':
      return validText(schema)
    case 'integer':
      return validInteger(schema)
    case 'number':
      return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true })
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'array': {
      const { minItems = 0, maxItems = minItems + 5 } = schema
      return fc.array(inner(schema.items ?? {}), { minLength: minItems, maxLength: Math.min(maxItems, minItems + 5) })
    }
    case 'object':
      return fc.record(
        Object.fromEntries(Object.entries(schema.properties ?? {}).map(([key, value]) => [key, inner(value, key)])),
        { requiredKeys: schema.required ?? [] },
      )
    default:
      return fc.jsonValue()
  }
}

/** Values that the schema allows but for one thing: a part too many, missing, or of another kind. */
function broken(document: Document, asked: Schema, known: Known): fc.Arbitrary<unknown> {
  const schema = resolve(document, asked)
  const properties = Object.entries(schema.properties ?? {})
  if (properties.length === 0) return oddValue
  const whole = valid(document, schema, known) as fc.Arbitrary<Record<string, unknown>>
  const changes = properties.flatMap(([key, value]) => [
    fc.tuple(whole, broken(document, value, known)).map(([object, part]) => ({ ...object, [key]: part })),
    whole.map((object) => Object.fromEntries(Object.entries(object).filter(([name]) => name !== key))),
  ])
  const more = fc.tuple(whole, fc.dictionary(fc.oneof(oddText, fc.string()), oddValue, { maxKeys: 3 }))
  return fc.oneof(
    ...changes,
    more.map(([object, extra]) => ({ ...object, ...extra })),
    oddValue,
  )
}

function contentOf(document: Document, { body }: Operation, known: Known, wrong: boolean) {
  const [type, media] = Object.entries(body?.content ?? {})[0] ?? []
  if (type === undefined) return fc.constant({ type, content: undefined })
  if (!type.includes('json')) return oddText.map((content) => ({ type, content }))
  const schema = media?.schema ?? {}
  const value = wrong ? broken(document, schema, known) : valid(document, schema, known)
  const json = value.map((content) => ({ type, content: JSON.stringify(content) }))
  return wrong
    ? fc.oneof(
        { arbitrary: json, weight: 9 },
        oddText.map((content) => ({ type, content })),
      )
    : json
}

/** A path segment or query value as text; a path of dots alone would be another path. */
const asText = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value)).toWellFormed()
const asSegment = (value: unknown) => encodeURIComponent(/^\.{0,2}$/.test(asText(value)) ? '-' : asText(value))

function urlOf(document: Document, { path, parameters }: Operation, known: Known, wrong: boolean) {
  const values = parameters
    .filter((parameter) => parameter.in === 'path' || parameter.in === 'query')
    .map(({ name, schema = {}, required = false, in: place }) => {
      const value =
        known[name] !== undefined && place === 'path' ? fc.constant(known[name]) : valid(document, schema, known, name)
      const any = wrong ? fc.oneof(value, valid(document, schema, {}), oddText, oddValue) : value
      return fc.record({ name: fc.constant(name), place: fc.constant(place), value: required ? any : fc.option(any) })
    })
  return fc.tuple(...values).map((all) => {
    const query = new URLSearchParams()
    let filled = path
    for (const { name, place, value } of all) {
      if (place === 'path') filled = filled.replace(`{${name}}`, () => asSegment(value))
      else if (value !== null) query.append(name, asText(value))
    }
    return query.size === 0 ? filled : `${filled}?${query}`
  })
}

/** Requests to an operation: some as it asks for them, some deliberately not. */
export function requestsOf(document: Document, operation: Operation, known: Known): fc.Arbitrary<AnyRequest> {
  const request = (wrong: boolean): fc.Arbitrary<AnyRequest> =>
    fc
      .record({
        url: urlOf(document, operation, known, wrong),
        sent: contentOf(document, operation, known, wrong),
        token: wrong ? fc.constantFrom('good', 'good', 'none', 'in headers') : fc.constant('good'),
        headers: wrong ? fc.dictionary(fc.constantFrom(...headerNames), headerText, { maxKeys: 3 }) : fc.constant({}),
      })
      .map(({ url, sent: { type, content }, token, headers }) => ({
        method: operation.method,
        url,
        headers: { ...(type === undefined ? {} : { 'content-type': type }), ...headers },
        content,
        token: token as AnyRequest['token'],
      }))
  return fc.oneof({ arbitrary: request(false), weight: 2 }, { arbitrary: request(true), weight: 3 })
}
