import { type CallsContract, type CallsOf, calledBy, callsBy } from '../app/calls.ts'
import type { App } from '../app/define-app.ts'
import type { ModuleContext, UsedCalls } from '../app/define-module.ts'
import { keptBy } from '../app/kept-calls.ts'
import { sendHere } from '../app/local-calls.ts'
import { RungError } from '../kernel/errors.ts'
import type { Keys } from '../kernel/keys.ts'
import type { DeclaredWarm } from '../primitives/cache/warming.ts'
import type { FilesRoot } from '../primitives/files/files.ts'
import { loadAssets } from '../primitives/http/assets.ts'
import type { Http } from '../primitives/http/contract.ts'
import { identifyBy } from '../primitives/http/principal.ts'
import { jobsOf } from '../primitives/jobs/jobs.ts'
import type { MailRoot } from '../primitives/mail/mail.ts'
import { searchFor } from '../primitives/search/search.ts'
import type { Sessions } from '../primitives/sessions/sessions.ts'
import type { Bindings } from '../topology/bindings.ts'
import { openCallDoor } from './call-door.ts'
import type { Homes } from './homes.ts'
import type { Log } from './log.ts'
import type { Primitives } from './primitives.ts'
import type { RemoteCalls } from './remote-calls.ts'
import { type AppWork, addWork } from './work.ts'

export interface ModuleParts {
  app: App
  bindings: Bindings
  log: Log
  http: Http
  primitives: Primitives
  files: FilesRoot
  mail: MailRoot
  /** Called when a module has mail to send. */
  mailAsked(): void
  sessions: Sessions
  keys(purpose: string): Keys
  homes: Homes
  /** Where modules are called that are not at home here. */
  remote: RemoteCalls | undefined
}

export interface AddedModules {
  /** What this process works off. */
  work: AppWork
  /** What others work off: publishers must know every group, and messages name every job. */
  elsewhere: AppWork
  warms: DeclaredWarm[]
  /** Of the modules that this process answers for. */
  routes: { method: string; url: string }[]
}

/**
 * Adds the routes of the modules in a process that takes requests. What modules do off the request path is known in every process.
 * @throws APP_INVALID
 */
export async function addModules(parts: ModuleParts): Promise<AddedModules> {
  const { app, bindings, http, primitives, homes } = parts
  const isWeb = bindings.role !== 'worker'
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  const elsewhere: AppWork = { jobs: [], consumed: [], crons: [] }
  const warms: DeclaredWarm[] = []
  const routed: AddedModules['routes'] = []
  const { cache } = primitives
  const tags = { collect: cache.collectTags.bind(cache) }
  const rules = { checked: bindings.mode !== 'production', inTransaction: primitives.data.inTransaction }
  const exposed = new Map<string, CallsOf<CallsContract>>()
  checkReads(app, primitives)
  for (const module of app.modules) {
    const calls = Object.fromEntries(
      Object.entries((module.uses ?? {}) as UsedCalls).map(([alias, used]) => [
        alias,
        calledBy(module.name, used, exposed.get(used.module)!),
      ]),
    )
    const assets = await loadAssets(module.name, module.assets)
    if (isWeb) assets.serve(http)
    const context: ModuleContext = {
      ...contextOf(module.name, parts),
      calls: calls as ModuleContext['calls'],
      asset: assets.urlOf,
      get mail() {
        parts.mailAsked()
        return parts.mail.forModule(module.name)
      },
    }
    const answers = isWeb && homes.answers(module.name)
    if (module.exposes) {
      const contract: CallsContract = module.exposes
      const handlers = homes.isHere(module.name) ? module.calls!(context) : undefined
      const send = handlers
        ? sendHere(handlers, rules.checked)
        : remoteOf(parts).to(homes.targetOf(module.name), contract)
      const kept = keptBy(contract, send, context.cache)
      exposed.set(module.name, callsBy(contract, kept, handlers ? rules : { ...rules, checked: true }))
      if (answers && bindings.groups.length > 0)
        await openCallDoor(http, { contract, handlers: handlers!, keys: parts.keys(callKeys), tags })
    }
    addWork(homes.works(module.name) ? work : elsewhere, module.name, module.work?.(context) ?? [], primitives)
    if (module.identify) identifyBy(http, module.identify(context))
    if (!answers) continue
    for (const warm of module.warm?.(context) ?? []) warms.push({ module: module.name, warm })
    const { routes } = module
    if (!routes) continue
    // In a context of its own: a hook or decorator of one module does not reach another.
    await http.register(async (scoped) => {
      scoped.addHook('onRoute', (route) => {
        route.config = { ...route.config, module: module.name } as never
        for (const method of [route.method].flat()) routed.push({ method, url: route.url })
      })
      await routes(scoped as unknown as Http, context)
    })
  }
  return { work, elsewhere, warms, routes: routed }
}

/** The purpose of the keys with which processes sign their calls. No module's name has a blank. */
export const callKeys = 'rung calls'

function remoteOf({ remote }: ModuleParts): RemoteCalls {
  if (remote) return remote
  throw new RungError(
    'CONFIG_INVALID',
    'RUNG_NODES has groups of modules, and RUNG_CALLS_URL does not say where they are called. Start everything with "rung up".',
  )
}

function contextOf(
  module: string,
  { primitives: { stores, cache }, files, sessions, keys, log }: ModuleParts,
): Omit<ModuleContext, 'calls' | 'asset' | 'mail'> {
  const store = stores.of(module)
  const data = stores.data(module)
  return {
    data,
    jobs: jobsOf(store.queue),
    files: files.forModule(module),
    sessions,
    search: searchFor(module, store.searchStore),
    cache: cache.forModule(module, data.write),
    log: log.child({ module }),
    secret: (purpose) => keys(`${module}/${purpose}`).signing.export(),
    acceptedSecrets: (purpose) =>
      keys(`${module}/${purpose}`)
        .accepted()
        .map((key) => key.export()),
  }
}

/** A statement cannot read tables of two databases. */
function checkReads(app: App, { stores }: Primitives): void {
  for (const { name, reads = [] } of app.modules) {
    for (const other of reads) {
      if (stores.of(name) === stores.of(other)) continue
      throw new RungError(
        'APP_INVALID',
        `Module "${name}" reads tables of module "${other}", which is in another database. Put both in one, or let "${other}" expose a call.`,
      )
    }
  }
}
