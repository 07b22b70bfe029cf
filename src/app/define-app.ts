import { RungError } from '../kernel/errors.ts'
import type { HttpOptions } from '../primitives/http/contract.ts'
import type { IdempotencyOptions } from '../primitives/idempotency/idempotency.ts'
import type { LimitOptions } from '../primitives/limits/limits.ts'
import type { SessionOptions } from '../primitives/sessions/sessions.ts'
import type { AnyCalls } from './calls.ts'
import type { AnyModule, UsedCalls } from './define-module.ts'

export interface App {
  readonly name: string
  /** In an order in which each comes after those it uses. */
  readonly modules: readonly AnyModule[]
  readonly http: HttpOptions
  readonly idempotency: IdempotencyOptions
  readonly limits: LimitOptions
  readonly sessions: SessionOptions | undefined
}

export interface AppDefinition {
  name: string
  modules: readonly AnyModule[]
  http?: HttpOptions
  idempotency?: IdempotencyOptions
  limits?: LimitOptions
  /** Signing in with a cookie; `{}` for the defaults. Without it there are none. */
  sessions?: SessionOptions
}

const nameFormat = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/
const reserved = new Set(['rung', 'public', 'information-schema'])

/**
 * An inert description of an app: two of them can live in one process.
 * @throws APP_INVALID for names that clash, modules that are missing, or a circle of uses
 */
export function defineApp(definition: AppDefinition): App {
  const { name, modules } = definition
  if (!nameFormat.test(name)) throw invalid(`"${name}" is no name for an app; use kebab-case.`)
  const byName = new Map<string, AnyModule>()
  for (const module of modules) {
    if (!nameFormat.test(module.name)) throw invalid(`"${module.name}" is no name for a module; use kebab-case.`)
    if (reserved.has(module.name) || module.name.startsWith('pg-'))
      throw invalid(`The module name "${module.name}" is taken by the system.`)
    if (!module.owner) throw invalid(`Module "${module.name}" has no owner; say which team answers for it.`)
    if (byName.has(module.name)) throw invalid(`Two modules are named "${module.name}".`)
    byName.set(module.name, module)
  }
  const { http = {}, idempotency = {}, limits = {}, sessions } = definition
  const inOrder = ordered(byName)
  checkCalls(byName)
  return { name, modules: inOrder, http, idempotency, limits, sessions }
}

function needs(module: AnyModule): string[] {
  return [...usedBy(module).map((calls) => calls.module), ...(module.reads ?? [])]
}

function usedBy(module: AnyModule): AnyCalls[] {
  return Object.values((module.uses ?? {}) as UsedCalls)
}

/** A caller and a module must mean the same contract, and each that is exposed must be answered. */
function checkCalls(byName: ReadonlyMap<string, AnyModule>): void {
  for (const { name, exposes, calls } of byName.values()) {
    if ((exposes === undefined) !== (calls === undefined)) {
      throw invalid(
        `Module "${name}" has ${exposes ? 'exposes without calls' : 'calls without exposes'}; it needs both.`,
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

/** Depth first: those that are used come before those that use them. */
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
      if (!other) throw invalid(`Module "${module.name}" needs module "${name}", which is not in the app.`)
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
