import { RungError } from '../kernel/errors.ts'
import { formatBytes, formatMs } from '../kernel/units.ts'
import type { EntryFacts } from '../primitives/cache/bounded.ts'
import { type ProcessFigures, readFigures } from '../primitives/cache/figures.ts'
import type { LayerFacts } from '../primitives/cache/layer.ts'
import type { GroupStats } from '../primitives/cache/stats.ts'
import { createLog } from '../runtime/log.ts'
import { openPrimitives } from '../runtime/primitives.ts'
import { openDatabase, openMemoryCache, openSignals, startDatabaseServer } from '../runtime/wire.ts'
import type { Command, Input } from './command.ts'
import { existingData, toolBindings } from './input-settings.ts'

const cache: Command = {
  name: 'cache',
  summary: 'what the cache saves, what it holds, and drop some of it',
  usage: 'rung cache [invalidate <module> <tag …>] [options]',
  help: [
    'Without a verb: of all processes that run now, since each was started. Of each',
    'kind of key: how often it was asked for, and which share of that came from',
    'memory, from the layer that all share, was given in its grace, or waited for a',
    'load of somebody else; how many loads there were, and how long one took. Then',
    'the keys that were used most lately (15 is the highest count), and the largest.',
    'Each process tells its figures every 5 seconds.',
    '',
    '  invalidate  makes every entry with one of the tags of the module useless, in',
    '              every process, as tx.invalidate does: within a quarter of a second',
  ].join('\n'),
  examples: ['rung cache', 'rung cache --json', 'rung cache invalidate articles article:7 articles'],
  settings: ['data', 'cdn.name', 'cdn.id', 'process.dataDir', 'process.config'],
  options: {},
  run(input) {
    const [verb, ...rest] = input.positionals
    if (verb === undefined) return show(input)
    if (verb === 'invalidate') return invalidate(input, rest)
    throw new RungError('CONFIG_INVALID', `There is no "${verb}" here. See: rung cache --help`)
  },
}
export default cache

async function open(input: Input) {
  const bindings = existingData(await toolBindings(input), input.cwd)
  const server = await startDatabaseServer(bindings, createLog('rung', 'silent'), 'attach')
  const database = openDatabase(bindings.data, server.connection)
  const close = async () => {
    await database.close()
    await server.stop()
  }
  return { bindings, database, connection: server.connection, close }
}

async function invalidate(input: Input, [module, ...tags]: readonly string[]): Promise<number> {
  if (module === undefined || tags.length === 0) {
    throw new RungError('CONFIG_INVALID', 'Name the module and its tags: rung cache invalidate <module> <tag …>')
  }
  const { bindings, database, connection, close } = await open(input)
  const layers = openMemoryCache(bindings, database)
  const primitives = openPrimitives(database, await openSignals(database, connection), undefined, layers)
  try {
    await primitives.data.forModule(module).write(async (tx) => tx.invalidate(tags))
  } finally {
    await primitives.close()
    await close()
  }
  if (input.json) input.out.json({ module, tags })
  else input.out.line(`${tags.join(', ')} of ${module}: useless everywhere within a quarter of a second.`)
  return 0
}

async function show(input: Input): Promise<number> {
  const { database, close } = await open(input)
  const processes = await readFigures(database).finally(close)
  const view = { ...summed(processes), processes }
  if (input.json) {
    input.out.json(view)
    return 0
  }
  if (processes.length === 0) {
    input.out.line('No running process has used its cache. Start the app, and let a module use cache.get;')
    input.out.line('its figures are here 5 seconds later.')
    return 0
  }
  for (const line of linesOf(view)) input.out.line(line)
  return 0
}

interface Summed {
  groups: GroupStats[]
  hottest: EntryFacts[]
  largest: EntryFacts[]
}

/** The figures of all processes together. */
function summed(processes: readonly ProcessFigures[]): Summed {
  const groups = new Map<string, GroupStats>()
  for (const one of processes.flatMap((process) => process.groups)) {
    const name = `${one.module}/${one.group}`
    const sum = groups.get(name)
    if (!sum) groups.set(name, { ...one })
    else for (const [key, n] of Object.entries(one)) if (typeof n === 'number') sum[key as 'hits'] += n
  }
  return {
    groups: [...groups.values()].sort((a, b) => asked(b) - asked(a)),
    hottest: most(processes, 'hottest', (a, b) => b.uses - a.uses),
    largest: most(processes, 'largest', (a, b) => b.bytes - a.bytes),
  }
}

function most(
  processes: readonly ProcessFigures[],
  what: 'hottest' | 'largest',
  order: (a: EntryFacts, b: EntryFacts) => number,
): EntryFacts[] {
  const byKey = new Map<string, EntryFacts>()
  for (const one of processes.flatMap((process) => process[what]).sort(order)) {
    if (!byKey.has(one.key)) byKey.set(one.key, one)
  }
  return [...byKey.values()].slice(0, 10)
}

const saved = (one: GroupStats) => one.hits + one.sharedHits + one.graces + one.coalesced
const asked = (one: GroupStats) => saved(one) + one.loads + one.bypassed
const total = (of: readonly GroupStats[], count: (one: GroupStats) => number) =>
  of.reduce((sum, one) => sum + count(one), 0)

/** In 80 columns. */
function* linesOf({ groups, hottest, largest, processes }: Summed & { processes: readonly ProcessFigures[] }) {
  const sum = (key: 'entries' | 'bytes' | 'bytesMax') => processes.reduce((n, one) => n + one[key], 0)
  const all = total(groups, asked)
  yield `${count(processes.length, 'process', 'processes')}; in memory: ${count(sum('entries'), 'entry', 'entries')}, ${formatBytes(sum('bytes'))} of ${formatBytes(sum('bytesMax'))}`
  yield* sharedLines(processes)
  yield* warmedLine(processes)
  yield `loads saved: ${number(total(groups, saved))} of ${number(all)} (${percent(total(groups, saved), all)})`
  yield ''
  yield `${'keys'.padEnd(27)}${['asked', 'memory', 'shared', 'grace', 'joined', 'loads', 'mean'].map((head, n) => head.padStart(widths[n]!)).join('')}`
  for (const one of groups) {
    const n = asked(one)
    const cells = [
      number(n),
      ...[one.hits, one.sharedHits, one.graces, one.coalesced].map((part) => percent(part, n)),
      number(one.loads),
      one.loads === 0 ? '' : formatMs(one.loadMs / one.loads),
    ]
    yield `${cut(`${one.module}/${one.group}`, 26).padEnd(27)}${cells.map((cell, at) => cell.padStart(widths[at]!)).join('')}`
    const trouble = [
      ...(one.failures > 0 ? [`${number(one.failures)} loads failed`] : []),
      ...(one.bypassed > 0 ? [`${number(one.bypassed)} loaded past the cache`] : []),
    ]
    if (trouble.length > 0) yield `  ${trouble.join(', ')}`
  }
  if (hottest.length === 0) return
  yield* keyLines('used most lately', hottest)
  yield* keyLines('largest', largest)
}

const widths = [9, 7, 7, 7, 7, 7, 9]

function* sharedLines(processes: readonly ProcessFigures[]) {
  const shared = processes.flatMap((one) => (one.shared ? [one.shared] : []))
  if (shared.length === 0) return
  const down = shared.filter(({ up }) => !up).length
  const facts: LayerFacts | null | undefined = shared.find((one) => one.facts)?.facts
  if (facts) {
    const room = facts.bytesMax > 0 ? ` of ${formatBytes(facts.bytesMax)}` : ''
    yield `shared: ${facts.engine}, ${count(facts.keys, 'key', 'keys')}, ${formatBytes(facts.bytes)}${room}, ${number(facts.evicted)} evicted`
  }
  if (down > 0)
    yield `shared: ${down} of ${count(shared.length, 'process', 'processes')} cannot use it at the moment; see RUNG_REDIS_URL`
}

/** The warming of the process that took longest. */
function* warmedLine(processes: readonly ProcessFigures[]) {
  const all = processes.flatMap(({ warmed }) => warmed ?? [])
  if (all.length === 0) return
  const sum = (key: 'items' | 'failed') => all.reduce((n, one) => n + one[key], 0)
  const failures = sum('failed') > 0 ? `; ${number(sum('failed'))} failed, see the log` : ''
  yield `warmed: ${count(sum('items'), 'item', 'items')} in ${formatMs(Math.max(...all.map(({ ms }) => ms)))}${failures}`
}

function* keyLines(head: string, keys: readonly EntryFacts[]) {
  yield ''
  yield `${head.padEnd(62)}${'uses'.padStart(5)}${'size'.padStart(12)}`
  for (const { key, uses, bytes } of keys) {
    yield `${cut(printable(key), 61).padEnd(62)}${String(uses).padStart(5)}${formatBytes(bytes).padStart(12)}`
  }
}

/** Keys may contain what users have sent. */
function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?')
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text
}

function percent(part: number, whole: number): string {
  return whole === 0 || part === 0 ? '-' : `${((100 * part) / whole).toFixed(1)} %`
}

function number(n: number): string {
  return n.toLocaleString('en-US')
}

function count(n: number, one: string, many: string): string {
  return `${number(n)} ${n === 1 ? one : many}`
}
