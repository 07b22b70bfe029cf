import { createHash } from 'node:crypto'
import { RungError } from '../../kernel/errors.ts'

/** A key whose value has a type. */
export interface Key<Value> {
  readonly text: string
  /** Only for the compiler. */
  readonly value?: Value
}

export type KeyPart = string | number | boolean | null

const lengthMax = 200
const tagsMax = 250

/** Makes keys of one kind: `const bySlug = defineKey<Article, [slug: string]>('article')`, then `bySlug('my-slug')`. */
export function defineKey<Value, Parts extends readonly KeyPart[] = []>(name: string): (...parts: Parts) => Key<Value> {
  if (!/^[a-z][a-z0-9-]*$/.test(name) || name.length > 60) {
    throw new RungError('APP_INVALID', `"${name}" is no name for a key; write it like article-by-slug.`)
  }
  return (...parts) => ({ text: parts.length === 0 ? name : `${name}:${textOf(parts)}` })
}

/** Different parts never have the same text. */
export function textOf(parts: readonly KeyPart[]): string {
  return parts.map((part) => (typeof part === 'string' ? `"${encode(part)}` : String(part))).join(':')
}

function encode(text: string): string {
  return /[:%\s]/.test(text) ? text.replace(/[:%\s]/g, (char) => `%${char.charCodeAt(0).toString(16)}`) : text
}

/** Tags that a module may invalidate, as many as it likes: the limit is one of entries. */
export function ownTagTexts(module: string, tags: readonly string[]): string[] {
  const foreign = tags.find((tag) => tag.startsWith('@') && !tag.startsWith(`@${module}/`))
  if (foreign === undefined) return namesOf(module, tags)
  throw new RungError(
    'CACHE_INVALID',
    `Module "${module}" invalidates "${foreign}". Only the module that has a tag knows when it changes; publish an event, or call it.`,
  )
}

/** As it is kept: of one module, and no longer than a name should be. What is longer is known by its hash. */
export function keyText(module: string, key: Key<unknown> | string): string {
  return `${module}/${short(typeof key === 'string' ? key : key.text, 'key')}`
}

/** `@accounts/account:5` is a tag of the module `accounts`, which alone can invalidate it; any other tag is the module's own. */
export function tagTexts(module: string, tags: readonly string[]): string[] {
  return namesOf(module, bounded(tags))
}

function namesOf(module: string, tags: readonly string[]): string[] {
  return tags.map((tag) => (tag.startsWith('@') ? short(tag.slice(1), 'tag') : `${module}/${short(tag, 'tag')}`))
}

export function bounded<Tags extends readonly string[]>(tags: Tags): Tags {
  if (tags.length <= tagsMax) return tags
  throw new RungError(
    'CACHE_INVALID',
    `An entry has ${tags.length} tags; ${tagsMax} are the most. Tag it by what changes together.`,
  )
}

function short(text: string, what: string): string {
  if (text === '') throw new RungError('CACHE_INVALID', `A ${what} of the cache is empty. Give it a name.`)
  if (text.length <= lengthMax) return text
  return `${text.slice(0, 100)}#${createHash('sha256').update(text).digest('base64url')}`
}

/** Keys of one kind are counted together. */
export function groupOf(key: Key<unknown> | string): string {
  const text = typeof key === 'string' ? key : key.text
  const end = text.indexOf(':')
  return end < 0 ? text : text.slice(0, end)
}
