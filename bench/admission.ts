import { LRUCache } from 'lru-cache'
import { BoundedMap } from '../src/primitives/cache/bounded.ts'
import type { Bench } from './run.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'
import {
  bursts,
  conduitReads,
  drifting,
  looping,
  mixed,
  optimum,
  scanned,
  stationary,
  type Trace,
} from './support/traces.ts'

const keys = 50_000
const requests = 500_000
const shares = [0.005, 0.01, 0.05, 0.1]
const valueBytes = 1000
const resident = 10_000
const targets = { pointsBelowLruMax: 4, getsPerCpuSecond: 5_000_000 }

const names = Array.from({ length: requests }, (_, n) => `article:${String(n).padStart(8, '0')}`)

const traces: Record<string, (entries: number) => Trace> = {
  'Zipf 0.8': () => stationary(keys, requests, 0.8),
  'Zipf 0.99': () => stationary(keys, requests, 0.99),
  'Zipf 1.1': () => stationary(keys, requests, 1.1),
  'Conduit: lists, articles, profiles': () => conduitReads(requests),
  'Zipf, new in 100': () => drifting(keys, requests, 0.99, 100),
  'Zipf, new in 20': () => drifting(keys, requests, 0.99, 20),
  'Zipf, new in 10': () => drifting(keys, requests, 0.99, 10),
  'Zipf and a scan': () => scanned(keys, requests, 0.99),
  'Zipf and runs': () => mixed(keys, requests, 0.99),
  'loop of 1.2 ×': (entries) => looping(Math.ceil(entries * 1.2), requests),
  'short bursts': (entries) => bursts(requests, entries),
}

interface Ratios {
  share: number
  lru: number
  ours: number
  optimum: number
}

const bench: Bench = {
  claim: 'the memory store keeps what is used often: clearly more hits than LRU, and never many less',
  async run({ json, rounds = 7 }) {
    const ratios: Record<string, Ratios[]> = {}
    for (const [name, make] of Object.entries(traces)) {
      ratios[name] = shares.map((share) => {
        const entries = keys * share
        const trace = make(entries)
        const all = {
          lru: hitsOfLru(trace, entries),
          ours: hitsOfOurs(trace, entries),
          optimum: optimum(trace, entries),
        }
        return { share, ...all }
      })
      progress(`  ${name}`)
    }
    const gets = speed(rounds)
    if (!json) show(ratios, gets)
    return {
      claim: bench.claim,
      facts: machineFacts('none'),
      targets,
      keys,
      requests,
      hitRatios: Object.fromEntries(
        Object.entries(ratios).map(([name, rows]) => [
          name,
          rows.map((row) => Object.fromEntries(Object.entries(row).map(([of, value]) => [of, to3(value)]))),
        ]),
      ),
      resident,
      millionGetsPerCpuSecond: Object.fromEntries(
        Object.entries(gets).map(([of, values]) => [of, rounded(spread(values))]),
      ),
      oursToLru: rounded(spread(gets.ours.map((value, at) => value / gets.lru[at]!))),
    }
  },
}
export default bench

const to3 = (value: number) => Math.round(value * 1000) / 1000

function hitsOfLru(trace: Trace, entries: number): number {
  const cache = new LRUCache<string, number>({ max: entries })
  let hits = 0
  for (const key of trace) {
    if (cache.get(names[key]!) !== undefined) hits += 1
    else cache.set(names[key]!, key)
  }
  return hits / trace.length
}

/** With room for exactly as many entries. */
function hitsOfOurs(trace: Trace, entries: number): number {
  const one = new BoundedMap<number>({ bytesMax: 1e6 })
  one.set(names[0]!, 0, valueBytes)
  const cache = new BoundedMap<number>({ bytesMax: entries * one.bytes })
  let hits = 0
  for (const key of trace) {
    if (cache.get(names[key]!) !== undefined) hits += 1
    else cache.set(names[key]!, key, valueBytes)
  }
  return hits / trace.length
}

/** All that is asked for is there. Millions of gets for each second of CPU, round by round in turn. */
function speed(rounds: number): Record<'ours' | 'lru' | 'map', number[]> {
  const trace = stationary(resident, requests, 0.99)
  const ours = new BoundedMap<object>({ bytesMax: resident * 1500 })
  const lru = new LRUCache<string, object>({ max: resident })
  const map = new Map<string, object>()
  for (const name of names.slice(0, resident)) {
    const value = {}
    ours.set(name, value, valueBytes)
    lru.set(name, value)
    map.set(name, value)
  }
  if (ours.size !== resident) throw new Error('not all is resident')
  const runs = {
    ours: () => {
      for (const key of trace) ours.get(names[key]!)
    },
    lru: () => {
      for (const key of trace) lru.get(names[key]!)
    },
    map: () => {
      let found = 0
      for (const key of trace) if (map.get(names[key]!) !== undefined) found += 1
      if (found < requests) throw new Error('not all is resident')
    },
  }
  const measured: Record<keyof typeof runs, number[]> = { ours: [], lru: [], map: [] }
  for (let round = -2; round < rounds; round += 1) {
    for (const kind of ['ours', 'lru', 'map'] as const) {
      const before = process.cpuUsage()
      runs[kind]()
      const { user, system } = process.cpuUsage(before)
      if (round >= 0) measured[kind].push(requests / (user + system)) // those before warm up
    }
  }
  return measured
}

function show(ratios: Record<string, Ratios[]>, gets: Record<'ours' | 'lru' | 'map', number[]>): void {
  console.log(`Hits in 100 gets, of LRU / ours / the optimum, with room for so many of ${keys} keys`)
  const percent = (value: number) => (100 * value).toFixed(0).padStart(2)
  const rows = Object.entries(ratios).map(([name, row]) => [
    name,
    ...row.map(({ lru, ours, optimum }) => [lru, ours, optimum].map(percent).join(' / ')),
  ])
  console.log(table([['', ...shares.map((share) => `${share * 100} %`)], ...rows]))
  console.log('\nMillion gets for each second of CPU, all of them hits')
  for (const [of, values] of Object.entries(gets)) console.log(`  ${of.padEnd(5)} ${inWords(spread(values), 1)}`)
}
