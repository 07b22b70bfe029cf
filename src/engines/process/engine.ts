import type { Settings } from '../../topology/read-settings.ts'
import type { Topology } from '../../topology/topology.ts'
import type { Packages } from './debian.ts'

/**
 * Everything that the rest of the house knows of an outside system: one object, in `engine.ts` of its folder, and one line in
 * fleet/engines.ts. A process of the app loads only its `client.ts`, which imports its npm package.
 */
export interface Engine {
  /** Its name in `rung engines install redis`. */
  readonly name: string
  /** The name that people know. */
  readonly product: string
  /** Under which name `/readyz` of a process of the app says whether it can use it. */
  readonly check?: string
  /** Name of its part in a fleet: `edge` is nginx. */
  readonly part: string
  /** `front`: requests come through it to the app. `behind`: the app uses it. */
  readonly side: 'front' | 'behind'
  /** Parts of other engines that it needs itself. */
  readonly needs?: readonly string[]
  /** How it is installed, where it does not come with Rung. */
  readonly packages?: Packages
  /** What is installed on this machine. An engine without this never runs here. */
  look?(): EngineState
  /** Whether a topology uses it, and whether Rung runs it. */
  use(topology: Topology): 'none' | 'managed' | 'external'
  /** What it is for, in words; at most 62 characters, without passwords. `entry`: where clients come in. */
  describe(settings: Settings['values'], entry: string): string
  /** Ports of this machine that it needs besides the one that it listens on for requests. */
  readonly ports?: number
  /** How it runs on this machine. Pure. */
  place?(site: EngineSite): PlacedEngine
  /** A server of this data directory that outlived the process that started it. */
  findLeftover?(dataDir: string): Promise<Leftover | undefined>
}

export interface EngineState {
  product: string
  version: string | null
  path: string | null
  /** Why it cannot be used; `null` when it can. */
  problem: string | null
}

/** What an engine may use of this machine. */
export interface EngineSite {
  readonly topology: Topology
  /** Absolute. */
  readonly dataDir: string
  readonly tmpDir: string
  /** Its own folder, short enough for a Unix socket of this name where one is given. */
  dirFor(socket?: string): string
  /** As many free ports as `ports` says. */
  readonly ports: readonly number[]
  /** Where requests come in; of an engine in front. */
  readonly listen: { readonly host: string; readonly port: number }
  /** `address:port` of what requests go to next; of an engine in front. */
  readonly upstreams: readonly string[]
  /** A random word of its own. */
  readonly secret: string
}

export interface PlacedEngine {
  /** Where it listens, for people; without a password. */
  readonly address: string
  readonly dir: string
  readonly log: string
  /** What it is started with, as data. It may hold secrets. */
  readonly options: object
  /** Variables by which processes of the app find it. */
  readonly environment: Readonly<Record<string, string>>
  start(events: EngineEvents): Promise<RunningPart>
}

export interface EngineEvents {
  /** For an engine that restarts itself: it has trouble, or without an argument it is back. */
  mend(trouble: string | undefined, pid?: number): void
  /** How long a request may take, in ms, as the processes of the app say. */
  requestTimeoutMs: number
}

/** A part of a fleet that answers. */
export interface RunningPart {
  readonly pid: number | undefined
  /** Resolves when it has ended, with a sentence. */
  readonly exited: Promise<string>
  /** Whether it answers anything at all. */
  answers(withinMs: number): Promise<boolean>
  /** Ends it at once. */
  kill(): void
  stop(): Promise<void>
}

export interface Leftover {
  pid: number
  address: string
  /** A process uses it, and stops it later. */
  owned: boolean
  stop(): Promise<void>
}

export function stateOf(
  product: string,
  found: { version: string; path: string } | undefined,
  problem: string | undefined,
): EngineState {
  return { product, version: found?.version ?? null, path: found?.path ?? null, problem: problem ?? null }
}
