import type { FastifyBaseLogger } from 'fastify'
import type { Cache } from '../primitives/cache/cache.ts'
import type { Warm } from '../primitives/cache/warming.ts'
import type { Data as DataOf } from '../primitives/data/data.ts'
import type { Files } from '../primitives/files/files.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { Identify } from '../primitives/http/principal.ts'
import type { Jobs } from '../primitives/jobs/jobs.ts'
import type { Mail } from '../primitives/mail/mail.ts'
import type { Search } from '../primitives/search/search.ts'
import type { Sessions } from '../primitives/sessions/sessions.ts'
import type { AnyCalls, CallHandlers, CallSchemas, CallsContract, CallsOf } from './calls.ts'
import type { Tx, Work } from './work.ts'

/** The data primitive as an app has it: its transactions also publish and enqueue. */
export type Data = DataOf<Tx>

/** What a module's functions get: the primitives, each as this module may use it. */
export interface ModuleContext<Uses extends UsedCalls = UsedCalls> {
  readonly data: Data
  readonly jobs: Jobs
  readonly files: Files
  readonly mail: Mail
  readonly sessions: Sessions
  readonly search: Search
  readonly cache: Cache
  /** The calls of `uses`. */
  readonly calls: { readonly [Name in keyof Uses]: CallsOf<Uses[Name]> }
  readonly log: FastifyBaseLogger
  /** Where browsers find a file of the module's `assets`. @throws APP_INVALID where there is none */
  asset(name: string): string
  /** A key of 32 bytes for one purpose, the same on every node and after every start. */
  secret(purpose: string): Uint8Array
}

/**
 * One part of an app, with an owner. It owns the Postgres schema of its name (`user-profiles` → `user_profiles`) and
 * nobody else's; other modules are reached through the calls they expose.
 */
export interface ModuleDefinition<S extends CallSchemas, Uses extends UsedCalls> {
  /** Kebab-case. */
  name: string
  /** The team that answers for it. */
  owner: string
  /** Folder of `0001_name.sql` files. */
  migrations?: URL
  /** Folder of files for browsers: styles, scripts, pictures. Their URLs have a hash of the content, and are kept for ever. */
  assets?: URL
  /** The calls of other modules that it makes, by the names that it gives them. */
  uses?: Uses
  /** Names of modules whose tables its statements read. Pins both to one database: they cannot be split later. */
  reads?: readonly string[]
  /** The calls that it offers, as `defineCalls` made them … */
  exposes?: CallsContract<S>
  /** … and how it answers each of them. */
  calls?: (context: ModuleContext<Uses>) => CallHandlers<CallsContract<S>>
  /** Says who signed a request, for limits and keys: the module that knows the accounts has it. */
  identify?: (context: ModuleContext<Uses>) => Identify
  routes?: (http: Http, context: ModuleContext<Uses>) => void | Promise<void>
  /** What it does off the request path: `handle`, `on`, `cron`. */
  work?: (context: ModuleContext<Uses>) => readonly Work[]
  /** What it wants in the cache before anybody asks for it: `warm`. At the start, and after the shared layer was emptied. */
  warm?: (context: ModuleContext<Uses>) => readonly Warm[]
}

export type Module<S extends CallSchemas = CallSchemas, Uses extends UsedCalls = UsedCalls> = ModuleDefinition<S, Uses>
// biome-ignore lint/suspicious/noExplicitAny: modules of any calls; each keeps its own types
export type AnyModule = Module<any, any>
export type UsedCalls = Readonly<Record<string, AnyCalls>>

/** Describes a module. It is inert: nothing runs before the app is started. */
// biome-ignore lint/complexity/noBannedTypes: a module that exposes or uses nothing has an empty record
export function defineModule<S extends CallSchemas = {}, Uses extends UsedCalls = {}>(
  definition: ModuleDefinition<S, Uses>,
): Module<S, Uses> {
  return definition
}
