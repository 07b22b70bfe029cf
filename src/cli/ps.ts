import path from 'node:path'
import type { ScalingStatus } from '../fleet/autoscaler.ts'
import { type CertificateFacts, daysLeft } from '../fleet/certificate.ts'
import { type PartFigures, partFiguresOf } from '../fleet/figures.ts'
import { type FleetState, noQuota } from '../fleet/state.ts'
import { fleetStatus, type PartStatus } from '../fleet/status.ts'
import { systemClock } from '../kernel/clock.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'
import { cutStart, second, tableLines } from './table.ts'

const ps: Command = {
  name: 'ps',
  summary: 'show what runs here, and its state',
  usage: 'rung ps [options]',
  wordsMax: 0,
  help: [
    'Lists what "rung up" or "rung start" runs on this data directory: process, state,',
    'how often it was restarted and why, and how long it has been in this state; also a',
    'Postgres that outlived a killed "rung start". Exits with 1 when nothing runs.',
    '',
    'It measures for a second: load, the share of one core that a part uses; req/s, the',
    'requests that a web process answers; lag, how long a replica takes to show what the',
    'primary has committed.',
  ].join('\n'),
  examples: ['rung ps', 'rung ps --json'],
  options: {
    brief: { type: 'boolean', help: 'Measure nothing.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { cwd, out } = input
    const dataDir = dataDirOfInput(input)
    const place = `data directory ${path.relative(cwd, dataDir) || '.'}`
    const found = await fleetStatus(dataDir)
    const figures = found.running && !input.values.brief ? await partFiguresOf(found.parts, dataDir) : undefined
    const status = !found.running
      ? found
      : { ...found, parts: found.parts.map((part): Row => ({ ...part, ...figures?.get(part.name) })) }
    if (!status.running) return result(status, () => out.line(`Nothing runs here (${place}).`), 1)
    return result(status, ({ pid, rung, url, parts, certificate, cpuQuota, scaling }) => {
      if (parts.length === 0) return out.line(`"rung up" is starting here (${place}), process ${pid}`)
      out.line(pid === undefined ? `rung start  ${place}` : `rung ${rung}  ${url}  supervisor ${pid}`)
      for (const line of linesOf(parts, dataDir)) out.line(line)
      if (certificate) for (const line of certificateLines(certificate)) out.line(line)
      if (cpuQuota) out.line(quotaLine(cpuQuota))
      for (const [role, now] of Object.entries(scaling ?? {})) out.line(scalingLine(role, now!))
    })
  },
}
export default ps

type Row = PartStatus & PartFigures

interface Column {
  head: string
  /** Negative: aligned to the right. */
  width: number
  cell(row: Row): string
}

const columns: readonly Column[] = [
  { head: 'part', width: 10, cell: ({ name }) => name },
  { head: 'state', width: 10, cell: ({ state }) => state },
  { head: 'role', width: 7, cell: ({ role }) => role ?? '' },
  { head: 'zone', width: 4, cell: ({ zone }) => zone ?? '' },
  { head: 'build', width: 12, cell: ({ build }) => build ?? '' },
  { head: 'process', width: -7, cell: ({ pid }) => String(pid ?? '') },
  { head: 'restarts', width: -8, cell: ({ restarts }) => String(restarts) },
  { head: 'since', width: -6, cell: ({ since }) => formatAge(systemClock.now() - since) },
  { head: 'load', width: -5, cell: ({ load }) => (load === undefined ? '' : `${Math.round(load * 100)}%`) },
  {
    head: 'req/s',
    width: -5,
    cell: ({ requestsPerSecond: rate }) => (rate === undefined ? '' : String(Math.round(rate))),
  },
  { head: 'lag', width: -6, cell: ({ lagMs }) => (lagMs === undefined ? '' : formatLag(lagMs)) },
]
const lineWidth = 80
const gap = '  '
const listensMin = 15
const nameMax = 18

/** Columns that would say nothing are left out; where a part listens is shown if there is room. */
function linesOf(rows: readonly Row[], dataDir: string): string[] {
  const hasReplicas = rows.some(({ role }) => role === 'replica')
  const hasBuilds = new Set(rows.flatMap(({ build }) => build ?? [])).size > 1
  const isUsed = ({ head, cell }: Column) => {
    if (head === 'role') return hasReplicas
    if (head === 'build') return hasBuilds
    return rows.some((row) => cell(row) !== '')
  }
  const shown = columns.filter(isUsed)
  // Names of groups are longer than those of other parts.
  const longest = Math.max(...rows.map(({ name }) => name.length))
  if (longest > shown[0]!.width) shown[0] = { ...shown[0]!, width: Math.min(longest, nameMax) }
  const used = shown.reduce((sum, { width }) => sum + Math.abs(width) + gap.length, 0)
  const room = Math.min(28, lineWidth - used)
  const where = ({ address }: Row) =>
    cutStart(address.startsWith(`${dataDir}/`) ? path.relative(dataDir, address) : address, room)
  if (room >= listensMin) shown.push({ head: 'listens', width: room, cell: where })
  const troubles = rows.flatMap(({ name, trouble, reason }) => {
    if (trouble) return [`${name}: ${trouble}`]
    return reason ? [`${name} was restarted: ${reason}`] : []
  })
  const cells = [shown.map(({ head }) => head), ...rows.map((row) => shown.map(({ cell }) => cell(row)))]
  const widths = shown.map(({ width }) => width)
  return [...tableLines(widths, cells, gap), ...troubles.map((text) => cutStart(text, 400))]
}

/** Also of `rung certs`. */
export function certificateLines({ problem, ...facts }: CertificateFacts & { problem?: string | undefined }): string[] {
  const days = daysLeft(facts, systemClock.now())
  const soon = days === undefined ? '' : days < 0 ? ' IT HAS EXPIRED: renew it.' : ` It ends in ${days} days: renew it.`
  const names = facts.names.slice(0, 3).join(', ') + (facts.names.length > 3 ? ' …' : '')
  const lines = [`certificate of ${names}, until ${second(facts.endsAt).slice(0, 16)} UTC.${soon}`]
  return problem === undefined ? lines : [...lines, `certificate: ${problem}`]
}

function quotaLine({ cores, problem }: NonNullable<FleetState['cpuQuota']>): string {
  if (problem !== undefined) return noQuota(problem)
  return `Each process of the app may use ${cores} ${cores === 1 ? 'core' : 'cores'}.`
}

function scalingLine(role: string, { least, most, reason }: ScalingStatus): string {
  return `${role} ${least} to ${most}, autoscaled: ${reason}`
}

function formatLag(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : formatAge(ms)
}

function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`
}
