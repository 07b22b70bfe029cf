import type { Engine, EngineState } from '../engines/process/engine.ts'
import { rungNames, rungs } from '../topology/catalog.ts'
import { engines } from './engines.ts'

/** An engine of this machine, and whether it can be used. */
export interface EngineView extends EngineState {
  engine: string
  /** The first rung that uses it. */
  from: string
}

/** Engines that run on this machine, from the inside outwards. */
export const localEngines = engines.filter(({ look }) => look !== undefined).reverse()
/** The others come with Rung. */
export const installableEngines = localEngines.filter(({ packages }) => packages !== undefined)

export function engineView(engine: Engine): EngineView {
  const from = rungNames.find((name) => engine.use(rungs[name]) === 'managed') ?? '-'
  return { engine: engine.name, from, ...engine.look!() }
}
