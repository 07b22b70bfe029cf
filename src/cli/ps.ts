import path from 'node:path'
import { engines } from '../fleet/engines.ts'
import { startedOn } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { type Command, type Input, settingOptions } from './command.ts'
import { dataDirOf } from './input-settings.ts'
import { lacksOf } from './lacks.ts'

const ps: Command = {
  name: 'ps',
  summary: 'what runs here, and how it is',
  usage: 'rung ps [options]',
  wordsMax: 0,
  help: [
    'Lists what "rung up" or "rung start" runs on this data directory: process, state,',
    'how often it was started again and why, and since when it is in this state; also a',
    'Postgres that outlived a killed "rung start". Ends with 1 when nothing runs.',
  ].join('\n'),
  examples: ['rung ps', 'rung ps --json'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const { cwd, json, out } = input
    const dataDir = dataDirOf(input)
    const place = path.relative(cwd, dataDir) || '.'
    const fleet = await runningFleet(dataDir)
    const parts = await Promise.all((fleet?.parts ?? (await partsOf(dataDir))).map(withTrouble))
    const runs = fleet !== undefined || parts.length > 0
    if (json) out.json(runs ? { running: true, ...fleet, parts } : { running: false })
    else if (!runs) out.line(`Nothing runs here (data directory ${place}).`)
    else if (fleet && parts.length === 0)
      out.line(`"rung up" starts here (data directory ${place}), process ${fleet.pid}`)
    else {
      out.line(
        fleet ? `rung ${fleet.rung}  ${fleet.url}  supervisor ${fleet.pid}` : `rung start  data directory ${place}`,
      )
      print(parts, dataDir, out)
    }
    return runs ? 0 : 1
  },
}
export default ps

interface Part {
  name: string
  state: string
  pid: number | undefined
  restarts: number
  since: number
  address: string
  trouble?: string | undefined
  reason?: string | undefined
}

/** What runs without a fleet: `rung start`, or an engine that outlived a killed one. */
async function partsOf(dataDir: string): Promise<Part[]> {
  const started = await startedOn(dataDir)
  const apps = started.map(({ process: { pid }, role, state, since, url }) => {
    return { name: role === 'both' ? 'app' : role, state, pid, restarts: 0, since, address: url.replace('http://', '') }
  })
  const since = apps[0]?.since ?? systemClock.now()
  const parts = await Promise.all(
    engines.map(async ({ part: name, findLeftover }): Promise<Part[]> => {
      const found = await findLeftover?.(dataDir)
      if (!found) return []
      const { pid, address } = found
      const server = { name, state: 'running', pid, restarts: 0, since, address }
      if (apps.length > 0 || found.owned) return [server]
      const trouble = 'what started it was killed; "rung start" takes it over, "rung stop" ends it'
      return [{ ...server, state: 'left', trouble }]
    }),
  )
  return [...apps, ...parts.flat()]
}

async function withTrouble(part: Part): Promise<Part> {
  if (part.state !== 'running' || !/^(app|web|worker|both)\b/.test(part.name)) return part
  const trouble = await lacksOf(part.address)
  return trouble === undefined ? part : { ...part, trouble }
}

function print(parts: readonly Part[], dataDir: string, out: Input['out']): void {
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

/** Shortened at its beginning: the end of a path says more. */
function tail(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(1 - most)}`
}
