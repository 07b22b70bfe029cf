import path from 'node:path'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import type { Command, Input } from './command.ts'
import { dataDirOf, dataOption } from './rung-config.ts'

const ps: Command = {
  name: 'ps',
  summary: 'what "rung up" runs here, and how it is',
  usage: 'rung ps [options]',
  help: [
    'Lists the parts of the fleet on this data directory: process, state, how often it',
    'was started again and why, and since when it is in this state. Ends with 1 when',
    'nothing runs.',
  ].join('\n'),
  examples: ['rung ps', 'rung ps --json'],
  options: { data: dataOption },
  async run(input) {
    const { cwd, json, out } = input
    const dataDir = dataDirOf(input)
    const fleet = await runningFleet(dataDir)
    if (json) out.json(fleet ? { running: true, ...fleet } : { running: false })
    else if (!fleet) out.line(`Nothing runs here (data directory ${path.relative(cwd, dataDir) || '.'}).`)
    else {
      out.line(`rung ${fleet.rung}  ${fleet.url}  supervisor ${fleet.pid}`)
      print(fleet.parts, dataDir, out)
    }
    return fleet ? 0 : 1
  },
}
export default ps

type Parts = NonNullable<Awaited<ReturnType<typeof runningFleet>>>['parts']

function print(parts: Parts, dataDir: string, out: Input['out']): void {
  const row = (...[name, state, pid, restarts, since, where]: string[]) =>
    out.line(
      `${name!.padEnd(11)}${state!.padEnd(12)}${pid!.padStart(8)}${restarts!.padStart(10)}${since!.padStart(8)}  ${where}`.trimEnd(),
    )
  row('part', 'state', 'process', 'restarts', 'since', 'listens')
  for (const { name, state, pid, restarts, since, address } of parts) {
    const where = address.startsWith(`${dataDir}/`) ? path.relative(dataDir, address) : address
    row(name, state, String(pid ?? ''), String(restarts), age(systemClock.now() - since), tail(where, 29))
  }
  for (const { name, trouble, reason } of parts) {
    if (trouble) out.line(tail(`${name}: ${trouble}`, 400))
    else if (reason) out.line(tail(`${name} was started again: ${reason}`, 400))
  }
}

function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`
}

/** The end of a path tells more than its beginning. */
function tail(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(1 - most)}`
}
