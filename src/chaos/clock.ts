import { writeFile } from 'node:fs/promises'
import { clockFileOf, fakeClockLibrary, fakeClocks } from '../engines/process/fake-clock.ts'
import { runningFleet } from '../fleet/state.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Duration, toMs } from '../kernel/units.ts'
import { type Fault, type FleetPart, refused, untilSeen } from './fault.ts'
import { processOf } from './parts.ts'
import { asAdmin } from './postgres.ts'

/** Faults of clocks. */

const lookEveryMs = 100

const skew: Fault = {
  name: 'skew',
  does: 'sets the clock of a part wrong, by libfaketime',
  shows: 'Nothing: no promise depends on the clocks of two machines. Tokens and caches may end early or late.',
  on: ['app', 'web', 'worker', 'primary', 'replica'],
  lasts: true,
  strength: { default: '2m', help: 'how far it is ahead; -2m is behind' },
  async problem(dataDir) {
    if (!fakeClockLibrary()) return 'It needs libfaketime. On Debian: apt-get install faketime'
    const fleet = await runningFleet(dataDir)
    if (!fleet || clockFileOf(fleet.pid) !== undefined) return undefined // a proof starts its fleet later
    const environment = Object.entries(fakeClocks).map((pair) => pair.join('='))
    return `The fleet must be started so: ${environment.join(' ')} rung up …`
  },
  async inject({ part, strength }, undoBy) {
    const aheadMs = aheadOf(strength)
    const file = clockFileOf(processOf(part).pid)
    if (file === undefined) throw refused(`${part.name} was not started with libfaketime.`)
    await undoBy({ how: 'remove', file })
    const before = await aheadMsOf(part)
    await writeFile(file, `${aheadMs < 0 ? '-' : '+'}${Math.abs(aheadMs) / 1_000}s\n`, { mode: 0o644 })
    await untilSeen(async () => {
      await sleep(lookEveryMs)
      return Math.abs((await aheadMsOf(part)) - before - aheadMs) < Math.abs(aheadMs) / 2
    }, `The clock of ${part.name} was set, and shows the same time as before.`)
    return { did: `its clock is ${strength.replace(/^-/, '')} ${aheadMs < 0 ? 'behind' : 'ahead'}` }
  },
}

export const clockFaults: readonly Fault[] = [skew]

/** @throws COMMAND_INVALID */
function aheadOf(strength: string): number {
  const aheadMs = /^-?\d/.test(strength) ? toMs(strength.replace(/^-/, '') as Duration) : 0
  if (aheadMs >= leastMs) return strength.startsWith('-') ? -aheadMs : aheadMs
  throw new RungError(
    'COMMAND_INVALID',
    `"${strength}" is no time of at least 5 s, such as 2m or -2m. See: rung chaos list`,
  )
}

/** Less than this cannot be told from the seconds of a `Date` header. */
const leastMs = 5_000

/** Returns how far the clock of a part is ahead of this process's. */
async function aheadMsOf(part: FleetPart): Promise<number> {
  const now = part.kind === 'primary' || part.kind === 'replica' ? await ofServer(part) : await ofProcess(part)
  return now - systemClock.now()
}

function ofServer(part: FleetPart): Promise<number> {
  return asAdmin(part, async (admin) => {
    const { rows } = await admin.query('select extract(epoch from clock_timestamp())::float8 * 1000 as ms')
    return rows[0].ms as number
  })
}

async function ofProcess({ address }: FleetPart): Promise<number> {
  const answer = await fetch(`http://${address}/healthz`, { signal: AbortSignal.timeout(2_000) })
  await answer.body?.cancel()
  return Date.parse(answer.headers.get('date') ?? '')
}
