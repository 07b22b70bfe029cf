import { RungError } from '../kernel/errors.ts'
import { callSite } from '../kernel/fault.ts'
import type { HttpOptions } from '../primitives/http/contract.ts'
import type { IdempotencyOptions } from '../primitives/idempotency/idempotency.ts'
import type { LimitOptions } from '../primitives/limits/limits.ts'
import type { SessionOptions } from '../primitives/sessions/sessions.ts'
import type { AnyCalls } from './calls.ts'
import type { AnyModule, UsedCalls } from './define-module.ts'

export interface App {
  readonly name: string
  /** Each module comes after those that it uses. */
  readonly modules: readonly AnyModule[]
  readonly http: HttpOptions
  readonly idempotency: IdempotencyOptions
  readonly limits: LimitOptions
  readonly sessions: SessionOptions | undefined
  readonly users: UsersOptions | undefined
  readonly alerts: AlertOptions
  readonly vitals: boolean
}

/** Where the app keeps its users, so that the record and `rung plan` know how many there are. */
export interface UsersOptions {
  /** The table with one row for each registered user, with the schema of its module: `accounts.account`. */
  table: string
}

/** How the alerts of an app differ from those of Rung. */
export interface AlertOptions {
  /** Who is responsible where an alert concerns no module. Default: the name of the app. */
  owner?: string
  /**
   * Other thresholds, by rule. `threshold` and `end` are in the unit of the rule: a share from 0 to 1, seconds, a count, or how many times as
   * much as before (`p95-rising`, `statement-slower`). An alert begins when the value has been beyond `threshold` for `forMinutes`, and may
   * end when it has come back to `end`: at most the threshold, or at least it for rules that fire below one (`disk-low`). Without `end` the
   * proportion to the threshold stays that of Rung's rule. A rule that is `'off'` is not evaluated. `rung alerts rules` lists all.
   * @throws APP_INVALID at the start of the app, for a rule that does not exist or an `end` on the wrong side
   * @example { 'pool-used': { threshold: 0.9 }, 'disk-low': { threshold: 0.2, end: 0.25 }, 'p95-rising': 'off' }
   */
  rules?: Readonly<Record<string, 'off' | { threshold?: number; end?: number; forMinutes?: number }>>
  /**
   * URLs of your own runbooks, by rule. Those of a module are in its `runbooks`.
   * @throws APP_INVALID at the start of the app, for a rule that does not exist
   */
  runbooks?: Readonly<Record<string, string>>
}

export interface AppDefinition {
  name: string
  modules: readonly AnyModule[]
  http?: HttpOptions
  idempotency?: IdempotencyOptions
  limits?: LimitOptions
  /** Sessions by cookie; `{}` for the defaults. Without this option there are none. */
  sessions?: SessionOptions
  /** Lets the record and `rung plan` know how many users there are. */
  users?: UsersOptions | undefined
  /** Owner, thresholds and runbooks of alerts. */
  alerts?: AlertOptions
  /**
   * Measures pages in the browsers of their readers (LCP, INP, CLS, FCP, TTFB), if they load `/-/vitals.js`. Default false.
   * @example <script src="/-/vitals.js" defer></script>
   */
  vitals?: boolean
}

const nameFormat = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/
const reserved = new Set(['rung', 'public', 'information-schema'])

/**
 * Describes an app. Nothing runs before it is started, and several apps can run in one process.
 * @throws APP_INVALID for names that clash, missing modules, or modules that use each other in a circle
 * @example export default defineApp({ name: 'shop', modules: [accounts, orders] })
 */
export function defineApp(definition: AppDefinition): App {
  const { name, modules } = definition
  if (!nameFormat.test(name)) throw invalid(`"${name}" is not a valid app name. Use kebab-case.`)
  const byName = new Map<string, AnyModule>()
  for (const module of modules) {
    if (!nameFormat.test(module.name)) throw invalid(`"${module.name}" is not a valid module name. Use kebab-case.`)
    if (reserved.has(module.name) || module.name.startsWith('pg-'))
      throw invalid(`The module name "${module.name}" is reserved. Choose another one.`)
    if (!module.owner) throw invalid(`Module "${module.name}" has no owner. Name the team that is responsible for it.`)
    if (byName.has(module.name)) throw invalid(`Two modules are named "${module.name}". Rename one.`)
    byName.set(module.name, module)
  }
  const { http = {}, idempotency = {}, limits = {}, sessions, users, vitals = false, alerts = {} } = definition
  if (users) checkUsers(users)
  const inOrder = ordered(byName)
  checkCalls(byName)
  const app: App = { name, modules: inOrder, http, idempotency, limits, sessions, users, vitals, alerts }
  callers.set(app, callSite(new Error().stack ?? ''))
  return app
}

const callers = new WeakMap<App, string>()

/** Returns the file whose code called `defineApp`, if that is known: the test kit loads it once more. */
export function fileOfApp(app: App): string | undefined {
  return /^(.+):\d+:\d+$/.exec(callers.get(app) ?? '')?.[1]
}

const tableFormat = /^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$/

function checkUsers({ table }: UsersOptions): void {
  if (typeof table === 'string' && tableFormat.test(table)) return
  throw invalid(`users.table is "${table}". Name the table with its schema: accounts.account`)
}

function needs(module: AnyModule): string[] {
  return [...usedBy(module).map((calls) => calls.module), ...(module.reads ?? [])]
}

function usedBy(module: AnyModule): AnyCalls[] {
  return Object.values((module.uses ?? {}) as UsedCalls)
}

/** Checks that caller and module have the same contract, and that each exposed contract is implemented. */
function checkCalls(byName: ReadonlyMap<string, AnyModule>): void {
  for (const { name, exposes, calls } of byName.values()) {
    if ((exposes === undefined) !== (calls === undefined)) {
      throw invalid(
        `Module "${name}" has ${exposes ? 'exposes without calls' : 'calls without exposes'}. It needs both.`,
      )
    }
    if (exposes && exposes.module !== name)
      throw invalid(`Module "${name}" exposes the calls of "${exposes.module}". Name "${name}" in its defineCalls.`)
  }
  for (const module of byName.values()) {
    for (const calls of usedBy(module)) {
      if (byName.get(calls.module)?.exposes === calls) continue
      throw invalid(`Module "${module.name}" uses calls of "${calls.module}" that this module does not expose.`)
    }
  }
}

/** Orders modules depth first: each comes after those that it needs. */
function ordered(byName: ReadonlyMap<string, AnyModule>): AnyModule[] {
  const result: AnyModule[] = []
  const path: string[] = []
  function visit(module: AnyModule): void {
    if (result.includes(module)) return
    if (path.includes(module.name)) {
      throw invalid(
        `Modules use each other in a circle: ${[...path, module.name].join(' → ')}. Turn one of the calls into an event.`,
      )
    }
    path.push(module.name)
    for (const name of needs(module)) {
      const other = byName.get(name)
      if (!other)
        throw invalid(`Module "${module.name}" needs module "${name}", which is not in the app. Add it to modules.`)
      visit(other)
    }
    path.pop()
    result.push(module)
  }
  for (const module of byName.values()) visit(module)
  return result
}

function invalid(message: string): RungError {
  return new RungError('APP_INVALID', message)
}
