import type { App } from '../app/define-app.ts'
import type { ModuleContext, UsedCalls } from '../app/define-module.ts'
import { localCalls } from '../app/local-calls.ts'
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
import type { Log } from './log.ts'
import type { Primitives } from './primitives.ts'
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
}

/**
 * Adds the routes of the modules in a process that takes requests. What modules do off the request path is known in every process.
 * @throws APP_INVALID
 */
export async function addModules(parts: ModuleParts): Promise<{ work: AppWork; warms: DeclaredWarm[] }> {
  const { app, bindings, http, primitives } = parts
  const isWeb = bindings.role !== 'worker'
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  const warms: DeclaredWarm[] = []
  const rules = { checked: bindings.mode !== 'production', inTransaction: primitives.data.inTransaction }
  const exposed = new Map<string, unknown>()
  checkReads(app, primitives)
  for (const module of app.modules) {
    const calls = Object.fromEntries(
      Object.entries((module.uses ?? {}) as UsedCalls).map(([alias, used]) => [alias, exposed.get(used.module)]),
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
    if (module.exposes) exposed.set(module.name, localCalls(module.exposes, module.calls!(context), rules))
    addWork(work, module.name, module.work?.(context) ?? [], primitives)
    if (module.identify) identifyBy(http, module.identify(context))
    if (!isWeb) continue
    for (const warm of module.warm?.(context) ?? []) warms.push({ module: module.name, warm })
    const { routes } = module
    if (!routes) continue
    // In a context of its own: a hook or decorator of one module does not reach another.
    await http.register(async (scoped) => {
      scoped.addHook('onRoute', (route) => {
        route.config = { ...route.config, module: module.name } as never
      })
      await routes(scoped as unknown as Http, context)
    })
  }
  return { work, warms }
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
