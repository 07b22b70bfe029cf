import type { Known } from '../engines/process/pid-file.ts'
import type { ControlRequest } from '../fleet/control.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'

/** A way in which a part of a fleet fails. */
export interface Fault {
  readonly name: string
  /** What it does, as a phrase. */
  readonly does: string
  /** What one should see then, as a sentence. */
  readonly shows: string
  readonly on: readonly Kind[]
  /** Whether the part must have something of Rung in front of it, which can be told another address. */
  readonly needsFront?: boolean
  /** Whether it goes on until it is undone; otherwise it happens once. */
  readonly lasts: boolean
  /** Why it cannot be injected on this machine, as a sentence. */
  problem?(dataDir: string): Promise<string | undefined> | string | undefined
  /** How strong it is, for those that have a strength. */
  readonly strength?: { readonly default: string; readonly help: string }
  /**
   * Injects it, and resolves once it has really taken effect.
   * @param undoBy writes down what undoes it; called before anything is changed
   * @throws CHAOS_NO_EFFECT, CHAOS_REFUSED; what was written down is undone then
   */
  inject(target: Target, undoBy: (undo: Undo) => Promise<void>): Promise<Injected>
}

export interface Target {
  readonly dataDir: string
  readonly part: FleetPart
  readonly strength: string
}

/** A part of a running fleet. */
export interface FleetPart {
  readonly name: string
  readonly kind: Kind
  /** What passes requests of clients on to it. */
  readonly front?: Front
  readonly pid: number | undefined
  readonly zone: string | undefined
  /** Where it listens. */
  readonly address: string
  readonly log: string
}

/** What undoes a fault, as data: another process may have to do it. It may be repeated, also when the part has died meanwhile. */
export type Undo =
  | { readonly how: 'resume'; readonly processes: readonly Known[] }
  | { readonly how: 'leave-group'; readonly group: string; readonly home: string }
  | { readonly how: 'resume-replay'; readonly socketDir: string }
  | { readonly how: 'ask-fleet'; readonly fleet: Known; readonly dataDir: string; readonly request: ControlRequest }
  | { readonly how: 'restore-socket'; readonly file: string; readonly aside: string; readonly proxy: string }
  | { readonly how: 'remove'; readonly file: string }
  | { readonly how: 'balance'; readonly socket: string; readonly part: string; readonly port: number }
  | { readonly how: 'upstream'; readonly dir: string; readonly address: string; readonly proxy: string }

export interface Injected {
  /** What was done, as a phrase: `killed process 4711`. */
  readonly did: string
  /** Ends that part of the fault that lives in this process, and so ends with it in any case. */
  release?(): Promise<void>
}

/**
 * What a part is. Which server of the database is the primary may change. `web` is a web process behind a balancer; one that is alone, or only
 * behind the page cache, is an `app`.
 */
export const kinds = [
  ...([
    'edge',
    'balancer',
    'app',
    'web',
    'worker',
    'redis',
    'nats',
    'pooler',
    'primary',
    'replica',
    'archiver',
  ] as const),
]
export type Kind = (typeof kinds)[number]
export type Front = 'edge' | 'balancer'

/** Whether a fault can be injected into a part. */
export function fits(
  { on, needsFront }: Pick<Fault, 'on' | 'needsFront'>,
  { kind, front }: Pick<FleetPart, 'kind' | 'front'>,
): boolean {
  return on.includes(kind) && (!needsFront || front !== undefined || !answersClients.includes(kind))
}
const answersClients: readonly Kind[] = ['balancer', 'app', 'web']

const lookEveryMs = 10
const effectWithinMs = 5_000

/** Waits until a fault has taken effect. @throws CHAOS_NO_EFFECT, with this sentence */
export async function untilSeen(check: () => Promise<boolean> | boolean, otherwise: string): Promise<void> {
  const giveUpAt = systemClock.ticks() + effectWithinMs
  while (!(await check())) {
    if (systemClock.ticks() > giveUpAt) throw noEffect(otherwise)
    await sleep(lookEveryMs)
  }
}

export function noEffect(sentence: string, cause?: unknown): RungError {
  return new RungError('CHAOS_NO_EFFECT', sentence, { cause })
}

export function refused(sentence: string): RungError {
  return new RungError('CHAOS_REFUSED', sentence)
}
