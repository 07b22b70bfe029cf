import { startedOn } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import type { ToolBindings } from '../topology/bindings.ts'

/**
 * Returns why views for development are hidden here, or `null`. The mode of what runs on this data directory decides, and that of this
 * command (NODE_ENV) if nothing does.
 */
export async function hiddenBecause({ dataDir, mode }: Pick<ToolBindings, 'dataDir' | 'mode'>): Promise<string | null> {
  const fleet = await runningFleet(dataDir)
  const started = await startedOn(dataDir)
  const modes = fleet ? [fleet.mode] : started.map((one) => one.mode ?? 'production')
  if (!(modes.length > 0 ? modes : [mode]).includes('production')) return null
  return 'This is for development only: it shows nothing in production mode. Start the app with rung dev, or set NODE_ENV=development.'
}
