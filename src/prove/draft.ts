import {
  literal,
  type OpenApi,
  type Operation,
  operationsOf,
  type Probe,
  parametersOf,
  type Schema,
  sample,
} from '../load/draft.ts'

/** How a text is written at a path and found there again. */
interface Way {
  kind: 'register' | 'collection'
  method: string
  path: string
  /** Code of the body, with `value` in it. */
  body: string
  /** Code of a function from the answer to what was written. */
  found: string
}

/**
 * Returns the text of a first prove.ts from the OpenAPI document of an app: what is written with PUT or PATCH and read at the same path is a
 * register, what is added with POST and listed there a collection, if the same text is in both. Paths with a parameter are there as comments, since their keys
 * are for the author to say. Pure.
 */
export function draftProof(
  document: OpenApi,
  probes: readonly Probe[],
  url: string,
): { text: string; drafted: number; left: number } {
  const ways = operationsOf(document).flatMap(({ method, path, operation }) => {
    const read = document.paths[path]?.get
    const way = read && wayOf(method, path, operation, read)
    return way ? [way] : []
  })
  const pages = probes.flatMap(({ path, status }) => (status < 300 && parametersOf(path).length === 0 ? [path] : []))
  const kinds = [
    ['registers', ways.filter(({ kind }) => kind === 'register')],
    ['collections', ways.filter(({ kind }) => kind === 'collection')],
  ] as const
  const text = `import { defineProof } from 'rung/prove'

/** Made by "rung prove init" from ${url.replaceAll('*/', '')}. Change it as you like: it is yours. */
export default defineProof({
  // Make users here, and return what each of them sends: { headers: { authorization: \`Bearer \${token}\` } }
  users: async () => [{}],
${kinds.map(([name, of]) => (of.length > 0 ? `  ${name}: [\n${of.map(entryOf).join('\n')}\n  ],\n` : '')).join('')}  pages: [${pages.map(literal).join(', ')}],
})
`
  const drafted = ways.filter(({ path }) => parametersOf(path).length === 0).length
  return { text, drafted, left: ways.length - drafted }
}

function entryOf({ kind, method, path, body, found }: Way): string {
  const [parameter, ...others] = parametersOf(path)
  const address = parameter === undefined ? literal(path) : `\`${template(path)}\``
  const key = parameter === undefined ? '_key' : 'key'
  const read = `async (client${parameter === undefined ? '' : ', key'}) => (${found})(await client.get(${address}))`
  const write = `(client, ${key}, value) => client.${method}(${address}, ${body})`
  const lines = [
    '{',
    `  name: ${literal(`${method.toUpperCase()} ${path}`)},`,
    `  keys: () => [${literal(parameter === undefined ? path : parameter)}],${parameter === undefined ? '' : ` // which ${parameter}? They are made in "users".`}`,
    ...(others.length > 0 ? [`  // And which ${others.join(', ')}?`] : []),
    kind === 'register' ? `  write: ${write},` : `  add: ${write},`,
    ...(kind === 'register'
      ? [`  read: ${read},`]
      : ['  // All of them: if the route returns pages, ask for each.', `  list: ${read},`]),
    '},',
  ]
  return lines.map((line) => `    ${parameter === undefined ? '' : '// '}${line}`).join('\n')
}

/** The path as a template, whose first parameter is the key. */
function template(path: string): string {
  const parts = path.split(/\{(\w+)\}/)
  return parts
    .map((part, at) => {
      if (at % 2 === 0) return literal(part).slice(1, -1).replaceAll('`', '\\`').replaceAll('$', '\\$')
      return `\${${at === 1 ? 'key' : part}}`
    })
    .join('')
}

function wayOf(method: string, path: string, operation: Operation, read: Operation): Way | undefined {
  const kind = method === 'post' ? 'collection' : method === 'put' || method === 'patch' ? 'register' : undefined
  const written = jsonOf(operation.requestBody)
  const shown = jsonOf(read.responses?.['200'])
  if (!kind || !written || !shown) return undefined
  for (const place of textsIn(written)) {
    const name = place.at(-1)!
    const found = kind === 'collection' ? listWith(shown, name) : valueCalled(shown, name)
    if (found !== undefined) return { kind, method, path, found, body: bodyWith(written, place) }
  }
  return undefined
}

const jsonOf = (of: Operation['requestBody']): Schema | undefined => of?.content?.['application/json']?.schema

/** Only such names can be written into code as they are. */
const isName = (name: string) => /^[A-Za-z_]\w*$/.test(name)

/** Returns where free texts are in an object, required ones first. */
function textsIn(schema: Schema, deep = 2): string[][] {
  const entries = Object.entries(schema.properties ?? {}).filter(([name]) => isName(name))
  const isRequired = (name: string) => schema.required?.includes(name) ?? false
  const sorted = entries.toSorted(([a], [b]) => Number(isRequired(b)) - Number(isRequired(a)))
  return sorted.flatMap(([name, one]) => {
    if (isFreeText(one)) return [[name]]
    return deep > 1 ? textsIn(one, deep - 1).map((place) => [name, ...place]) : []
  })
}

const isFreeText = ({ type, enum: values, const: constant, format }: Schema) =>
  type === 'string' && values === undefined && constant === undefined && format === undefined

/** Code of the body that the schema allows, with the value at a place. */
function bodyWith(schema: Schema, [name, ...rest]: readonly string[]): string {
  const given = (sample(schema) ?? {}) as Record<string, unknown>
  const others = Object.entries(given).filter(([other]) => other !== name)
  const inner = rest.length === 0 ? 'value' : bodyWith(schema.properties![name!]!, rest)
  const all = [...others.map(([other, one]) => `${JSON.stringify(other)}: ${JSON.stringify(one)}`), `${name}: ${inner}`]
  return `{ ${all.join(', ')} }`
}

/** Code of a function from an answer to the texts of its list; `undefined` if it has none with this property. */
function listWith(schema: Schema, name: string): string | undefined {
  const has = ({ items }: Schema) => items?.properties?.[name]?.type === 'string'
  const texts = `.map(({ ${name} }) => ${name})`
  if (has(schema)) return `(all: { ${name}: string }[]) => all${texts}`
  const list = Object.entries(schema.properties ?? {}).find(([key, one]) => isName(key) && has(one))?.[0]
  return list && `({ ${list} }: { ${list}: { ${name}: string }[] }) => ${list}${texts}`
}

function valueCalled(schema: Schema, name: string): string | undefined {
  const has = ({ properties }: Schema) => properties?.[name]?.type === 'string'
  if (has(schema)) return `({ ${name} }: { ${name}: string }) => ${name}`
  const inside = Object.entries(schema.properties ?? {}).find(([key, one]) => isName(key) && has(one))?.[0]
  return inside && `({ ${inside} }: { ${inside}: { ${name}: string } }) => ${inside}.${name}`
}
