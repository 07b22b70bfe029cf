import { type Random, seededRandom, shuffled } from '../kernel/random.ts'
import { type Fault, type FleetPart, fits } from './fault.ts'

/** A fault at its time. */
export interface Planned {
  /** Faults of one round are in force together; the next round waits until the fleet is whole. */
  readonly round: number
  /** From the beginning of all, in ms. */
  readonly atMs: number
  readonly fault: string
  /** The name of a part, or `primary` or `replica` for whichever that is then. */
  readonly part: string
  /** How long it is in force, in ms; 0 if it happens once. */
  readonly forMs: number
}

export interface ScheduleOptions {
  readonly seed: number
  /** When the last fault is over, in ms since the beginning of all. */
  readonly forMs: number
  /** Before the first pause, in ms. Default 0. */
  readonly quietMs?: number
  readonly faults: readonly Pick<Fault, 'name' | 'on' | 'needsFront' | 'lasts'>[]
  readonly parts: readonly Pick<FleetPart, 'name' | 'kind' | 'front'>[]
  /** Two faults in each round, on different parts. */
  readonly pairs: boolean
}

const forMsMin = 1_000
const forMsMax = 6_000
/** Between two rounds, for the fleet to become whole. */
const pauseMs = { min: 1_000, max: 4_000 }

/** Returns which fault strikes which part when. Pure: the same options have the same schedule. */
export function scheduleOf({ seed, forMs, quietMs = 0, faults, parts, pairs }: ScheduleOptions): Planned[] {
  const random = seededRandom(seed)
  const targets = targetsIn(parts)
  const all = faults.flatMap((fault) => {
    const fitting = targets.filter((part) => fits(fault, part))
    return fitting.length > 0 ? [{ fault, fitting }] : []
  })
  const planned: Planned[] = []
  // Each fault comes once before any comes a second time.
  let deck: typeof all = []
  function draw(notOn?: string): Omit<Planned, 'round' | 'atMs'> | undefined {
    const usable = (one: (typeof all)[number]) => one.fitting.some(({ name }) => name !== notOn)
    if (!deck.some(usable)) deck = [...deck, ...shuffled(all, random)]
    const found = deck.find(usable)
    if (!found) return undefined
    deck.splice(deck.indexOf(found), 1)
    const { fault, fitting } = found
    const part = pick(
      fitting.filter(({ name }) => name !== notOn),
      random,
    )
    const lastsMs = Math.round(forMsMin + random() * (forMsMax - forMsMin))
    return { fault: fault.name, part: part.name, forMs: fault.lasts ? lastsMs : 0 }
  }
  for (let [round, atMs] = [1, quietMs]; ; round += 1) {
    atMs += Math.round(pauseMs.min + random() * (pauseMs.max - pauseMs.min))
    const first = draw()
    if (!first || atMs + first.forMs > forMs) return planned
    planned.push({ round, atMs, ...first })
    const second = pairs ? draw(first.part) : undefined
    // While the first one is in force, or within a second after it happened.
    const secondAtMs = atMs + Math.round(random() * Math.max(first.forMs, 1_000))
    if (second) planned.push({ round, atMs: secondAtMs, ...second })
    atMs = Math.max(atMs + first.forMs, second ? secondAtMs + second.forMs : 0)
  }
}

/** Servers of the database are named by their roles, which change during a run. */
function targetsIn(parts: ScheduleOptions['parts']): ScheduleOptions['parts'] {
  const byName = new Map(
    parts.map(({ name, kind, front }) => {
      const called = kind === 'primary' || kind === 'replica' ? kind : name
      return [called, { name: called, kind, ...(front && { front }) }]
    }),
  )
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function pick<T>(all: readonly T[], random: Random): T {
  return all[Math.floor(random() * all.length)]!
}
