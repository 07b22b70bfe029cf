/** A first scenario from the OpenAPI document of a running app. Pure, except that the caller asks the app. */

export interface Operation {
  parameters?: readonly { in: string; name: string; required?: boolean; schema?: Schema }[]
  requestBody?: Content
  responses?: Readonly<Record<string, Content>>
}

interface Content {
  content?: Readonly<Record<string, { schema?: Schema }>>
}

export interface Schema {
  type?: string | readonly string[]
  properties?: Readonly<Record<string, Schema>>
  required?: readonly string[]
  items?: Schema
  anyOf?: readonly Schema[]
  enum?: readonly unknown[]
  const?: unknown
  default?: unknown
  examples?: readonly unknown[]
  format?: string
  minLength?: number
  minimum?: number
}

export interface OpenApi {
  paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
}

/** What the app answered to a GET. */
export interface Probe {
  /** As it is in the document: `/articles/{slug}`. */
  path: string
  status: number
  /** The parsed body, if it is JSON. */
  body?: unknown
}

/** Returns the paths of GET routes that need no parameter, which can be asked as they are. */
export function probesOf(document: OpenApi): string[] {
  return operationsOf(document).flatMap(({ method, path, operation }) =>
    method === 'get' &&
    !path.includes('{') &&
    !(operation.parameters ?? []).some(({ required, schema }) => required && schema?.default === undefined)
      ? [path]
      : [],
  )
}

/** Returns routes with one parameter for which the answers contain a value, with the address that has it. */
export function filledProbesOf(document: OpenApi, probes: readonly Probe[]): { path: string; address: string }[] {
  return operationsOf(document).flatMap(({ method, path }) => {
    const [name, ...others] = parametersOf(path)
    const source = name === undefined || others.length > 0 ? undefined : sourceOf(name, path, probes)
    if (method !== 'get' || !source) return []
    return [{ path, address: path.replace(`{${name}}`, encodeURIComponent(source.example)) }]
  })
}

/**
 * Returns the text of a scenario file. Routes that answered are read; a route with a parameter is read with values that a list of the app
 * contains. The others are there as comments: a load test must not write before somebody wants it to.
 */
export function draftScenario(document: OpenApi, probes: readonly Probe[], url: string): string {
  const journeys: string[] = []
  const comments: string[] = []
  const sources = new Map<string, Source>()
  for (const { method, path, operation } of operationsOf(document)) {
    const route = `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`
    const probe = probes.find((one) => one.path === path)
    const names = parametersOf(path)
    const source = names.length === 1 ? sourceOf(names[0]!, path, probes) : undefined
    const isRead = method === 'get' && probe !== undefined && probe.status < 400
    const address = names.length > 0 ? filled(path) : literal(path)
    const named = names.length > 0 ? `, { route: ${literal(route)} }` : ''
    const line = `{ name: ${literal(route)}, run: (visitor) => visitor.request('${method.toUpperCase()}', ${address}`
    if (isRead) {
      if (source) sources.set(keyOf(names[0]!, path), source)
      journeys.push(`${line}${named}) },`)
    } else {
      const schema = operation.requestBody?.content?.['application/json']?.schema
      const body = schema ? `body: ${JSON.stringify(sample(schema))}` : ''
      const options = [names.length > 0 ? `route: ${literal(route)}` : '', body].filter(Boolean).join(', ')
      const why = probe && method === 'get' ? ` (it answered ${probe.status})` : ''
      comments.push(`// ${line}${options ? `, { ${options} }` : ''}) },${why}`)
    }
  }
  return `import { defineScenario } from 'rung/load'

/** Made by "rung load init" from ${url.replaceAll('*/', '')}. Change it as you like: it is yours. */
export default defineScenario({
  // Journeys that begin in a second, whatever the answers are.
  phases: [
    { seconds: 5, rate: 1, to: 20 },
    { seconds: 25, rate: 20 },
  ],
${setupText(sources)}  // "weight" says how often a journey is chosen, beside the others.
  journeys: [
${[...journeys, ...comments].map((line) => `    ${line}`).join('\n')}
  ],
})
`
}

/** Where values of a parameter are: `body.articles[*].slug` of a GET. */
interface Source {
  path: string
  /** The property that holds the list; `undefined` if the body itself is the list. */
  list: string | undefined
  property: string
  example: string
  /** Of its values, as TypeScript writes it. */
  type: 'string' | 'number'
}

export function parametersOf(path: string): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)
}

export function operationsOf({ paths }: OpenApi) {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => /^(get|post|put|patch|delete)$/.test(method))
      .map(([method, operation]) => ({ method, path, operation })),
  )
}

/** Names are another program's: they must not become code of this file. */
export function literal(text: string): string {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
}

/** The path as a template, whose parameters are chosen by each visitor. */
function filled(path: string): string {
  const parts = path.split(/\{(\w+)\}/)
  const written = parts.map((part, index) =>
    index % 2 === 0
      ? literal(part).slice(1, -1).replaceAll('`', '\\`').replaceAll('$', '\\$')
      : `\${visitor.pick(visitor.data.${keyOf(part, path)})}`,
  )
  return `\`${written.join('')}\``
}

/** `slug` of `/api/articles/{slug}` → `articlesSlug` */
function keyOf(name: string, path: string): string {
  const before =
    path
      .slice(0, path.indexOf(`{${name}}`))
      .split('/')
      .filter((part) => /^\w+$/.test(part))
      .at(-1) ?? ''
  const key = before === '' ? name : `${before}${name[0]!.toUpperCase()}${name.slice(1)}`
  return key.replace(/^(\d)/, '_$1')
}

/** The list whose path the route continues, if its elements have the parameter; otherwise any list that has it. */
function sourceOf(name: string, path: string, probes: readonly Probe[]): Source | undefined {
  const before = path.slice(0, path.indexOf(`/{${name}}`))
  const sorted = probes.toSorted((a, b) => Number(b.path === before) - Number(a.path === before))
  for (const { path: from, body } of sorted) {
    const lists = Array.isArray(body)
      ? [[undefined, body] as const]
      : Object.entries((body ?? {}) as object).filter(([, value]) => Array.isArray(value))
    for (const [list, [first]] of lists as [string | undefined, unknown[]][]) {
      const value = (first as Record<string, unknown> | undefined)?.[name]
      if (list !== undefined && !/^[A-Za-z_]\w*$/.test(list)) continue
      const type = typeof value
      if (type === 'string' || type === 'number')
        return { path: from, list, property: name, example: String(value), type }
    }
  }
  return undefined
}

function setupText(sources: ReadonlyMap<string, Source>): string {
  if (sources.size === 0) return ''
  const paths = [...new Set([...sources.values()].map(({ path }) => path))]
  const typeOf = (path: string) => {
    const read = [...sources.values()].filter((one) => one.path === path)
    const element = `{ ${[...new Set(read.map(({ property, type }) => `${property}: ${type}`))].join('; ')} }[]`
    const lists = [...new Set(read.map(({ list }) => list))]
    return lists[0] === undefined ? element : `{ ${lists.map((list) => `${list}: ${element}`).join('; ')} }`
  }
  return `  // Runs once, before the load. Journeys choose from what it returns.
  async setup(visitor) {
${paths.map((path, index) => readText(`answer${index}`, path, typeOf(path))).join('\n')}
    return {
${[...sources].map(([key, { path, list, property }]) => `      ${key}: answer${paths.indexOf(path)}Body${list === undefined ? '' : `.${list}`}.map(({ ${property} }) => ${property}),`).join('\n')}
    }
  },
`
}

/** The lines that read a list, and end the setup with a sentence where the answer has none. */
function readText(name: string, path: string, type: string): string {
  return `    const ${name} = await visitor.request('GET', ${literal(path)})
    visitor.check(${name}.status === 200, ${literal(`GET ${path} answered `)} + ${name}.status)
    const ${name}Body = ${name}.json<${type}>()`
}

/** Returns a value that the schema allows in most cases: for people, who change it. */
export function sample(schema: Schema): unknown {
  const [example] = schema.examples ?? schema.enum ?? []
  if (example !== undefined) return example
  if (schema.const !== undefined) return schema.const
  if (schema.default !== undefined) return schema.default
  if (schema.anyOf?.[0]) return sample(schema.anyOf[0])
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type
  if (type === 'object' || schema.properties) {
    const wanted = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name))
    return Object.fromEntries(wanted.map(([name, one]) => [name, sample(one)]))
  }
  if (type === 'array') return schema.items ? [sample(schema.items)] : []
  if (type === 'integer' || type === 'number') return schema.minimum ?? 1
  if (type === 'boolean') return true
  if (type === 'null') return null
  if (schema.format === 'email') return 'someone@example.org'
  if (schema.format === 'date-time') return '2026-01-01T00:00:00Z'
  return 'text'.padEnd(schema.minLength ?? 0, 't')
}
