import path from 'node:path'
import { fleetStatus, type PartStatus } from '../fleet/status.ts'
import { systemClock } from '../kernel/clock.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'
import { cutStart, tableLines } from './table.ts'

const ps: Command = {
  name: 'ps',
  summary: 'show what runs here, and its state',
  usage: 'rung ps [options]',
  wordsMax: 0,
  help: [
    'Lists what "rung up" or "rung start" runs on this data directory: process, state,',
    'how often it was restarted and why, and how long it has been in this state; also a',
    'Postgres that outlived a killed "rung start". Exits with 1 when nothing runs.',
  ].join('\n'),
  examples: ['rung ps', 'rung ps --json'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const { cwd, out } = input
    const dataDir = dataDirOfInput(input)
    const place = `data directory ${path.relative(cwd, dataDir) || '.'}`
    const status = await fleetStatus(dataDir)
    if (!status.running) return result(status, () => out.line(`Nothing runs here (${place}).`), 1)
    return result(status, ({ pid, rung, url, parts }) => {
      if (parts.length === 0) return out.line(`"rung up" is starting here (${place}), process ${pid}`)
      out.line(pid === undefined ? `rung start  ${place}` : `rung ${rung}  ${url}  supervisor ${pid}`)
      for (const line of linesOf(parts, dataDir)) out.line(line)
    })
  },
}
export default ps

function linesOf(parts: readonly PartStatus[], dataDir: string): string[] {
  const rows = parts.map(({ name, state, pid, restarts, since, address }) => {
    const where = address.startsWith(`${dataDir}/`) ? path.relative(dataDir, address) : address
    const age = formatAge(systemClock.now() - since)
    return [name, state, String(pid ?? ''), String(restarts), age, cutStart(where, 28)]
  })
  const heads = ['part', 'state', 'process', 'restarts', 'since', 'listens']
  const troubles = parts.flatMap(({ name, trouble, reason }) => {
    if (trouble) return [`${name}: ${trouble}`]
    return reason ? [`${name} was restarted: ${reason}`] : []
  })
  return [...tableLines([10, 10, -8, -8, -6, 28], [heads, ...rows]), ...troubles.map((text) => cutStart(text, 400))]
}

function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`
}
