import { RungError } from '../kernel/errors.ts'
import { formatBytes, formatMs } from '../kernel/units.ts'
import type { EntryFacts } from '../primitives/cache/bounded.ts'
import { readFigures } from '../primitives/cache/figures.ts'
import type { GroupStats } from '../primitives/cache/stats.ts'
import { type CacheSummary, requestsOf, savedLoadsOf, sharedFactsOf, summarise } from '../primitives/cache/summary.ts'
import { openPrimitives } from '../runtime/primitives.ts'
import { openSignals } from '../runtime/wire.ts'
import {
  type Command,
  databaseSettings,
  type Input,
  type Result,
  result,
  settingOptions,
  unknownVerb,
} from './command.ts'
import { withOpenDatabase } from './database.ts'
import { tableLines } from './table.ts'

const cache: Command = {
  name: 'cache',
  summary: 'show what the cache saves and holds, or invalidate tags',
  usage: 'rung cache [invalidate <module> <tag …>] [options]',
  help: [
    'Without a verb: the figures of all running processes since each was started. For',
    'each kind of key: how often it was requested, and which share of that was answered',
    'from memory, from the shared layer, by an expired value in its grace, or by the',
    'load of another request; how many loads there were, and how long one took. Then the',
    'most used keys (15 is the highest count) and the largest. Processes write their',
    'figures every 5 seconds.',
    '',
    '  invalidate  removes every entry with one of these tags of the module from all',
    '              processes within a quarter of a second, like tx.invalidate',
  ].join('\n'),
  examples: ['rung cache', 'rung cache --json', 'rung cache invalidate articles article:7 articles'],
  settings: [...databaseSettings, 'cdn.name', 'cdn.id'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const [verb, ...words] = input.positionals
    if (verb === 'invalidate') return invalidate(input, words)
    if (verb !== undefined) return unknownVerb(cache, verb)
    const summary = summarise(await withOpenDatabase(input, ({ database }) => readFigures(database)))
    return result(summary, () => {
      for (const line of linesOf(summary)) input.out.line(line)
    })
  },
}
export default cache

async function invalidate(input: Input, [module, ...tags]: readonly string[]): Promise<Result> {
  if (module === undefined || tags.length === 0) {
    throw new RungError('COMMAND_INVALID', 'Name the module and its tags: rung cache invalidate <module> <tag …>')
  }
  await withOpenDatabase(input, async ({ bindings, database, connection }) => {
    const primitives = openPrimitives({
      databases: [{ database }],
      signals: await openSignals(database, async () => connection),
      cache: { cdn: bindings.cdn !== undefined },
    })
    const { data } = primitives
    await data
      .forModule(module)
      .write(async (tx) => tx.invalidate(tags))
      .finally(() => primitives.close())
  })
  return result({ module, tags }, () => input.out.line(`Invalidated ${tags.join(', ')} of ${module}.`))
}

const groupWidths = [25, -7, -7, -7, -7, -7, -6, -7]

function* linesOf(summary: CacheSummary) {
  const { groups, hottest, largest, processes } = summary
  if (processes.length === 0) {
    yield 'No running process has used its cache. Start the app and let a module call cache.get;'
    yield 'the figures appear 5 seconds later.'
    return
  }
  const total = (of: (one: GroupStats) => number) => groups.reduce((sum, one) => sum + of(one), 0)
  const sum = (key: 'entries' | 'bytes' | 'bytesMax') => processes.reduce((n, one) => n + one[key], 0)
  const memory = `${formatBytes(sum('bytes'))} of ${formatBytes(sum('bytesMax'))}`
  yield `${count(processes.length, 'process', 'processes')}; in memory: ${count(sum('entries'), 'entry', 'entries')}, ${memory}`
  yield* sharedLines(summary)
  yield* warmedLines(summary)
  const [saved, all] = [total(savedLoadsOf), total(requestsOf)]
  yield `loads saved: ${number(saved)} of ${number(all)} (${percent(saved, all)})`
  yield ''
  yield* tableLines(groupWidths, [['keys', 'asked', 'memory', 'shared', 'grace', 'joined', 'loads', 'mean']], ' ')
  for (const one of groups) {
    const requests = requestsOf(one)
    const shares = [one.hits, one.sharedHits, one.graces, one.coalesced].map((part) => percent(part, requests))
    const mean = one.loads === 0 ? '' : formatMs(one.loadMs / one.loads)
    const cells = [`${one.module}/${one.group}`, number(requests), ...shares, number(one.loads), mean]
    yield* tableLines(groupWidths, [cells], ' ')
    const troubles = []
    if (one.failures > 0) troubles.push(`${number(one.failures)} loads failed`)
    if (one.bypassed > 0) troubles.push(`${number(one.bypassed)} loaded past the cache`)
    if (troubles.length > 0) yield `  ${troubles.join(', ')}`
  }
  if (hottest.length === 0) return
  yield* keyLines('most used', hottest)
  yield* keyLines('largest', largest)
}

function* sharedLines(summary: CacheSummary) {
  const shared = summary.processes.flatMap((one) => one.shared ?? [])
  const facts = sharedFactsOf(summary)
  if (facts) {
    const room = facts.bytesMax > 0 ? ` of ${formatBytes(facts.bytesMax)}` : ''
    yield `shared: ${facts.engine}, ${count(facts.keys, 'key', 'keys')}, ${formatBytes(facts.bytes)}${room}, ${number(facts.evicted)} evicted`
  }
  const down = shared.filter(({ up }) => !up).length
  if (down > 0)
    yield `shared: ${down} of ${count(shared.length, 'process', 'processes')} cannot use it, or a node of it`
}

function* warmedLines({ processes }: CacheSummary) {
  const all = processes.flatMap(({ warmed }) => warmed ?? [])
  if (all.length === 0) return
  const sum = (key: 'items' | 'failed') => all.reduce((n, one) => n + one[key], 0)
  const failures = sum('failed') > 0 ? `; ${number(sum('failed'))} failed, see the log` : ''
  yield `warmed: ${count(sum('items'), 'item', 'items')} in ${formatMs(Math.max(...all.map(({ ms }) => ms)))}${failures}`
}

function* keyLines(head: string, keys: readonly EntryFacts[]) {
  yield ''
  const rows = keys.map(({ key, uses, bytes }) => [
    key.replace(/\p{C}/gu, '?'), // keys may contain what users sent
    String(uses),
    formatBytes(bytes),
  ])
  yield* tableLines([60, -5, -11], [[head, 'uses', 'size'], ...rows])
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
