import { existsSync } from 'node:fs'
import path from 'node:path'
import { startedOn } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import { RungError } from '../kernel/errors.ts'
import { askRoutes } from '../load/ask-routes.ts'
import { checkScenario } from '../load/scenario.ts'
import type { Input } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'

/**
 * What a draft of a file is made from: the routes of the app that runs, and their answers.
 * @throws COMMAND_INVALID if the file is there already, FLEET_NOT_RUNNING, LOAD_INVALID
 */
export async function askForDraft(input: Input, name: string) {
  const { cwd, values } = input
  const file = path.resolve(cwd, name)
  if (existsSync(file) && !values.force)
    throw new RungError('COMMAND_INVALID', `${name} is there already. Name another file, or replace it with --force.`)
  const url = ((values.url as string | undefined) ?? (await urlHere(input))).replace(/\/$/, '')
  checkScenario({ url, closed: { visitors: 1, journeys: 1 }, journeys: [{ name: 'init', run: async () => {} }] })
  return { file, url, ...(await askRoutes(url)) }
}

/**
 * Returns the address of what runs on the data directory.
 * @throws FLEET_NOT_RUNNING
 */
export async function urlHere(input: Input): Promise<string> {
  const dataDir = dataDirOfInput(input)
  const fleet = await runningFleet(dataDir)
  if (fleet?.url) return fleet.url
  const started = (await startedOn(dataDir)).find(({ role, url }) => role !== 'worker' && url !== '')
  if (started) return started.url
  throw new RungError(
    'FLEET_NOT_RUNNING',
    'No app runs here. Start one (rung start), or name its address: --url http://127.0.0.1:3000',
  )
}
