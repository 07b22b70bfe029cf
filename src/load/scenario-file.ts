import { pathToFileURL } from 'node:url'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { Phase } from './arrivals.ts'
import type { Scenario } from './scenario.ts'

/** What each thread of a load loads: this file, under the name that it has where it was built too. */
export const scenarioThread = new URL(import.meta.url)

/** A scenario in a file of its own, and what replaces parts of it. */
export interface ScenarioFile {
  file: string
  url?: string
  phases?: readonly Phase[]
  closed?: Scenario['closed']
  seed?: number
  /** Only the journeys of these names. */
  only?: readonly string[]
}

/**
 * Reads the default export of a file: a scenario, or a function that returns one. Each thread of a load does this for itself.
 * @throws LOAD_INVALID
 */
export default async function scenarioOf({ file, url, phases, closed, seed, only }: ScenarioFile): Promise<Scenario> {
  const module = (await import(pathToFileURL(file).href).catch((cause) => {
    throw new RungError('LOAD_INVALID', `${file} cannot be read: ${messageOf(cause)}`, { cause })
  })) as { default?: Scenario | (() => Scenario | Promise<Scenario>) }
  const scenario = typeof module.default === 'function' ? await module.default() : module.default
  if (!Array.isArray(scenario?.journeys))
    throw new RungError('LOAD_INVALID', `${file} has no scenario as its default export. See: rung load init`)
  const { phases: _, closed: __, trace: ___, ...rest } = scenario
  return {
    ...(phases || closed ? rest : scenario),
    ...(phases && { phases }),
    ...(closed && { closed }),
    ...(url !== undefined && { url }),
    ...(seed !== undefined && { seed }),
    ...(only && { journeys: scenario.journeys.filter(({ name }) => only.includes(name)) }),
  }
}
