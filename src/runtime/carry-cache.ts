import path from 'node:path'
import { atMost } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { type Carrying, leaveEntries, takeEntries } from '../primitives/cache/carry.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import { type CacheLayers, ownDataDir } from './wire.ts'

const stopMsMax = 5_000

/** Redis keeps the entries over a start by itself. In development each start is there because the code has changed. */
export function carriesCache({ cache, mode, role }: Config, { shared }: CacheLayers): boolean {
  return cache === 'on' && shared === undefined && mode === 'production' && role !== 'worker'
}

/** The process begins with what the last one left. Gives what leaves its own for the next one. Neither is ever a reason to fail. */
export async function carryCache(
  parts: Omit<Carrying, 'file'>,
  config: Config,
  log: Log,
): Promise<() => Promise<void>> {
  const carrying = { ...parts, file: path.join(config.dataDir, 'cache', 'memory') }
  const failed = (what: string) => (error: unknown) => {
    log.warn({ event: 'cache-not-carried', err: error }, `${what}: ${messageOf(error)}`)
  }
  await take().catch(failed('what the last process had in its cache cannot be taken'))
  return () => atMost(stopMsMax, leave().catch(failed('what is in the cache cannot be left for the next process')))

  async function take(): Promise<void> {
    const taken = await takeEntries(carrying)
    if (typeof taken === 'number')
      log.debug(
        { event: 'cache-carried', entries: taken },
        `the cache begins with ${taken} entries of the last process`,
      )
    else if (taken !== undefined)
      log.debug(
        { event: 'cache-not-carried' },
        `the cache begins empty; there is a file of the last process, but ${taken}`,
      )
  }

  async function leave(): Promise<void> {
    const entries = await leaveEntries(carrying, ownDataDir(config))
    log.debug({ event: 'cache-left', entries }, `${entries} entries are left for the next process`)
  }
}
