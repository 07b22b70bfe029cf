import type { FastifyBaseLogger } from 'fastify'
import { callSite } from '../kernel/fault.ts'
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

/** The data primitive of an app. Its transactions also publish and enqueue. */
export type Data = DataOf<Tx>

/** The argument of a module's functions: the primitives, each limited to this module. */
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
  /** Returns the path at which browsers find a file of the module's `assets`. @throws APP_INVALID if there is no such file */
  asset(name: string): string
  /** Returns a key of 32 bytes for one purpose, the same on every node and after every start, until the root of all keys is replaced. */
  secret(purpose: string): Uint8Array
  /**
   * Returns all keys of a purpose with which something may have been signed: that of `secret` first, then those of former and next roots.
   * Sign with `secret`, and accept what any of these has signed. Ask each time that a signature is checked: a former root ends at its time.
   */
  acceptedSecrets(purpose: string): readonly Uint8Array[]
}

/**
 * A part of an app, with an owner. It owns the Postgres schema of its name (`user-profiles` → `user_profiles`) and no other. It reaches other
 * modules through the calls that they expose.
 */
export interface ModuleDefinition<S extends CallSchemas, Uses extends UsedCalls> {
  /** Kebab-case. */
  name: string
  /** The responsible team. */
  owner: string
  /**
   * URLs of its own runbooks, by the name of the alert.
   * @throws APP_INVALID at the start of the app, for an alert that does not exist
   * @example { 'job-age': 'https://wiki.example.org/late-jobs' }
   */
  runbooks?: Readonly<Record<string, string>>
  /** Folder of `0001_name.sql` files. */
  migrations?: URL
  /**
   * Folder of files for browsers: styles, scripts, images; or several folders and single files. Their URLs contain a hash of the content, so
   * browsers keep them for ever.
   * @example [new URL('./assets/', import.meta.url), new URL(import.meta.resolve('rung/tokens.css'))]
   */
  assets?: URL | readonly URL[]
  /** Contracts of the modules that it calls, by names of its own. */
  uses?: Uses
  /** Names of modules whose tables its statements read. Such modules must stay in one database. */
  reads?: readonly string[]
  /** The contract of its own calls, from `defineCalls`. */
  exposes?: CallsContract<S>
  /** Implements the calls of `exposes`. */
  calls?: (context: ModuleContext<Uses>) => CallHandlers<CallsContract<S>>
  /** Identifies the principal of a request, for limits and keys. It belongs to the module with the accounts. */
  identify?: (context: ModuleContext<Uses>) => Identify
  routes?: (http: Http, context: ModuleContext<Uses>) => void | Promise<void>
  /** Work outside of requests: `handle`, `on`, `cron`. */
  work?: (context: ModuleContext<Uses>) => readonly Work[]
  /** Values to load into the cache at the start, and after the shared layer was emptied: `warm`. */
  warm?: (context: ModuleContext<Uses>) => readonly Warm[]
}

export type Module<S extends CallSchemas = CallSchemas, Uses extends UsedCalls = UsedCalls> = ModuleDefinition<S, Uses>
// biome-ignore lint/suspicious/noExplicitAny: modules of any calls; each keeps its own types
export type AnyModule = Module<any, any>
export type UsedCalls = Readonly<Record<string, AnyCalls>>

const places = new WeakMap<AnyModule, string>()

/** Returns where a module was described, if that is known: `/app/orders/module.ts:12:27`. */
export function placeOfModule(module: AnyModule): string | undefined {
  return places.get(module)
}

/** Describes a module. Nothing runs before the app is started. */
// biome-ignore lint/complexity/noBannedTypes: a module that exposes or uses nothing has an empty record
export function defineModule<S extends CallSchemas = {}, Uses extends UsedCalls = {}>(
  definition: ModuleDefinition<S, Uses>,
): Module<S, Uses> {
  places.set(definition, callSite(new Error().stack ?? ''))
  return definition
}
