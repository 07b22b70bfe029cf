/**
 * What stands around the snippets of the guides that are no whole files. A snippet names its prelude in a comment before it,
 * `<!-- prelude: routes -->`, and takes the place of `SNIPPET`. Its imports come first in the file that is checked.
 */
const routes = `
import type { Readable } from 'node:stream'
import { type Http, type ModuleContext, RungError, defineEvent, defineJob, defineKey, principalOf } from 'rung'
import { Type } from 'typebox'

const Payment = Type.Object({ amount: Type.Integer() })
const Login = Type.Object({ email: Type.String(), password: Type.String() })
const User = Type.Object({ id: Type.Integer() })
const Note = Type.Object({ author: Type.Integer(), text: Type.String() })
const noteWritten = defineEvent('notes.written', Type.Object({ author: Type.Integer() }))
const sendReceipt = defineJob('till.send-receipt', Type.Object({ id: Type.Integer() }))
declare const check: (login: { email: string; password: string }) => Promise<{ id: number; plan: string }>
declare const accountOf: (principal: { id: string } | undefined) => Promise<object>
declare const login: () => Promise<object>
declare const report: () => Promise<object>
declare const status: () => Promise<object>
declare const feed: () => Promise<object>
declare const order: () => Promise<object>
declare const pay: () => Promise<object>
declare const rendered: (markdown: string) => string

interface Uses {
  accounts: { names(input: { ids: number[] }): Promise<{ id: number; name: string }[]> }
  articles: { one(input: { slug: string }): Promise<{ article: { body: string } }> }
}

export async function routes(http: Http, { data, cache, files, mail, search, sessions, calls }: Omit<ModuleContext, 'calls'> & { calls: Uses }) {
SNIPPET
}
`

const module = `
import type { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { type Cache, type Data, defineModule, warm } from 'rung'
import { Type } from 'typebox'

const User = Type.Object({ id: Type.Integer() })
declare const mostRead: (data: Data) => Promise<string[]>
declare const tokens: { verify(header: string | undefined): Promise<{ id: string; plan: string } | undefined> }
declare const find: (cache: Cache, slug: string) => Promise<object>

export const example = defineModule({
  name: 'example',
  owner: 'editors',
SNIPPET
})
`

const statements = `
import type { Data, Files, Mail, Search } from 'rung'
import { Kysely, PostgresDialect } from 'kysely'
import { drizzle } from 'drizzle-orm/node-postgres'
import { outgoing } from 'rung'

declare const data: Data
declare const files: Files
declare const mail: Mail
declare const search: Search
declare const user: { id: number; name: string; email: string }
declare const onlyRecent: boolean
declare const id: number, title: string, description: string, body: string, author: string, tags: string[], q: string
declare const client: { charge(order: object, options: { signal: AbortSignal }): Promise<void> }
declare const order: object
interface Tables {
  'notes.note': { id: number; text: string }
}

SNIPPET
`

const tour = `
import { type Static, Type } from 'typebox'
import { identityCalls } from '../../examples/conduit/identity/contract.ts'
import { identity } from '../../examples/conduit/identity/module.ts'

const Slug = Type.Object({ slug: Type.String() })
const Article = Type.Object({ slug: Type.String(), title: Type.String(), author: Type.String() })

SNIPPET
`

const stored = `
import type { Files } from 'rung'

declare const files: Files

SNIPPET
`

const rebuild = `
import { type Data, type Search, defineIndex } from 'rung'

declare const data: Data
declare const search: Search
const articles = defineIndex('articles', { language: 'english', fields: { title: { weight: 'A' }, body: {} } })

SNIPPET
`

const work = `
import { defineEvent, on } from 'rung'
import { Type } from 'typebox'
const OrderPlaced = defineEvent('orders.placed', Type.Object({ id: Type.Integer() }))
export const work = () => [
SNIPPET
]
`

const modules = `
import { type Module } from 'rung'
declare const modules: Module[]
SNIPPET
`

const app = `
import app from './app.ts'
SNIPPET
`

/** Only compiled: it would add its tests to those of the guides. */
const tests = `
SNIPPET
`

const script = `
export async function script() {
SNIPPET
}
`

export const preludes: Readonly<Record<string, string>> = {
  routes,
  module,
  statements,
  tour,
  stored,
  rebuild,
  modules,
  work,
  app,
  tests,
  script,
}

/** The tables of snippets that are whole files: SQL by guide and module. */
export const tables: Readonly<Record<string, Record<string, string>>> = {
  'docs/guides/caching.md': {
    articles: `create table article (id bigint generated always as identity primary key, slug text not null unique, title text not null);
      create table tag (article bigint not null references article, name text not null, primary key (article, name));`,
  },
  'docs/guides/jobs-and-events.md': {
    orders: `create table placed (id bigint generated always as identity primary key, at timestamptz not null default now());
      create table day (day date primary key, orders bigint not null);`,
    stock: 'create table item (id int primary key, reserved int not null default 0);',
  },
  'docs/guides/write-an-app.md': {
    notes: 'create table note (id bigint generated always as identity primary key, text text not null);',
    accounts: 'create table account (id int primary key, name text not null);',
  },
}
