import type { App } from '../app/define-app.ts'
import { RungError } from '../kernel/errors.ts'
import { nearestOf } from '../kernel/typos.ts'
import type { Bindings } from '../topology/bindings.ts'

/** Where the modules of an app are at home, as one process sees it. */
export interface Homes {
  /** Whether this process has the module's code for calls: it needs none over the network. */
  isHere(module: string): boolean
  /** Whether it answers the module's requests and calls, if it answers requests at all. */
  answers(module: string): boolean
  /** Whether it runs the module's jobs, events and crons, if it runs work at all. */
  works(module: string): boolean
  /** The group that answers the module's calls; `core`: the processes that have no group. */
  targetOf(module: string): string
}

/** The name of the processes that have no group, in messages and metrics. */
const core = 'core'

/**
 * A group takes over what it has processes for: without a web process the requests of its modules stay with the processes that have no
 * group, without a worker their jobs and events do.
 * @throws CONFIG_INVALID for a module that the app does not have
 */
export function homesOf(app: Pick<App, 'modules'>, { group, groups }: Pick<Bindings, 'group' | 'groups'>): Homes {
  const names = app.modules.map(({ name }) => name)
  for (const { name, modules } of groups) {
    const unknown = modules.find((one) => !names.includes(one))
    if (unknown === undefined) continue
    const meant = nearestOf(unknown, names)
    throw new RungError(
      'CONFIG_INVALID',
      `The group "${name}" of nodes has the module "${unknown}", which this app does not have. ${meant === undefined ? `It has ${names.join(', ')}.` : `Write ${meant}.`}`,
    )
  }
  const groupOf = (module: string) => groups.find(({ modules }) => modules.includes(module))
  const homeOf = (module: string, role: 'web' | 'worker') => {
    const found = groupOf(module)
    return found && found[role] > 0 ? found.name : undefined
  }
  return {
    isHere: (module) => groupOf(module)?.name === group || homeOf(module, 'web') === group,
    answers: (module) => homeOf(module, 'web') === group,
    works: (module) => homeOf(module, 'worker') === group,
    targetOf: (module) => homeOf(module, 'web') ?? core,
  }
}
