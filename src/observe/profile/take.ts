import type { Profiler } from 'node:inspector'
import { Session } from 'node:inspector/promises'
import { sleep } from '../../kernel/clock.ts'

/** As V8 writes it: what `.cpuprofile` files contain. Times are µs. */
export type CpuProfile = Profiler.Profile

/** V8's default. */
const everyUs = 1_000

/** Profiles this process for so many ms, or until `over`. No port is opened for it. */
export async function takeProfile(ms: number, over: AbortSignal): Promise<CpuProfile> {
  const session = new Session()
  session.connect()
  try {
    await session.post('Profiler.enable')
    await session.post('Profiler.setSamplingInterval', { interval: everyUs })
    await session.post('Profiler.start')
    await sleep(ms, over)
    const { profile } = await session.post('Profiler.stop')
    return profile
  } finally {
    session.disconnect()
  }
}
