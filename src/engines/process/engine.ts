import type { Lsn } from '../../kernel/position.ts'
import type { Settings } from '../../topology/read-settings.ts'
import type { Topology } from '../../topology/topology.ts'
import type { Packages } from './debian.ts'

/**
 * Everything that the rest of the code knows about an outside system: one object in `engine.ts` of its folder, and one line in
 * fleet/engines.ts. A process of the app loads only its `client.ts`, which imports the npm package.
 */
export interface Engine {
  /** Its name in `rung engines install redis`. */
  readonly name: string
  /** Its name for people. */
  readonly product: string
  /** The name of its check in `/readyz` of the app's processes. */
  readonly check?: string
  /** The name of its part in a fleet: `edge` is nginx. */
  readonly part: string
  /** The names of its instances, where Rung runs several: `postgres-2`, `postgres-3`. Otherwise there is one, named as the part. */
  instances?(topology: Topology): readonly string[]
  /** Whether its instances are spread over the zones of a fleet. */
  readonly isSpread?: boolean
  /** `front`: requests reach the app through it. `behind`: the app uses it. */
  readonly side: 'front' | 'behind'
  /** Whether it accepts from a socket that other parts share, where it is the entry. */
  readonly sharesEntry?: boolean
  /** Parts of other engines that it needs itself. */
  readonly needs?: readonly string[]
  /** How it is installed, if it does not come with Rung. */
  readonly packages?: Packages
  /** Looks for it on this machine. An engine without this never runs here. */
  look?(): EngineState
  /** Whether a topology uses it, and whether Rung runs it. */
  use(topology: Topology): 'none' | 'managed' | 'external'
  /** Describes it in at most 62 characters, without passwords. `entry` is where clients connect. */
  describe(settings: Settings['values'], entry: string): string
  /** Number of ports that each instance needs besides the one for requests. It may depend on the topology. */
  readonly ports?: number | ((topology: Topology) => number)
  /** Places an instance on this machine. Pure. */
  place?(site: EngineSite): PlacedEngine
  /** Finds a server of this data directory that outlived the process that started it. */
  findLeftover?(dataDir: string): Promise<Leftover | undefined>
  /** Asks running instances of it among these parts what they are to each other, for at most `withinMs`. By name. */
  roles?(
    parts: readonly Upstream[],
    dataDir: string,
    withinMs: number,
  ): Promise<ReadonlyMap<string, { role: string; lagMs?: number }>>
}

export interface EngineState {
  product: string
  version: string | null
  path: string | null
  /** Why it cannot be used; `null` when it can. */
  problem: string | null
}

/** The part of this machine that an engine may use. */
export interface EngineSite {
  /** The name of this instance. */
  readonly name: string
  readonly topology: Topology
  readonly settings: Settings['values']
  /** Absolute. */
  readonly dataDir: string
  readonly tmpDir: string
  /** Returns its own folder, with a path short enough for a Unix socket of this name. */
  dirFor(socket?: string): string
  /** As many free ports as `ports` says. */
  readonly ports: readonly number[]
  /** Where an engine in front receives requests. */
  readonly listen: Listen
  /** Of the outermost engine in front, if clients connect by https. */
  readonly tls?: Tls | undefined
  /** Where an engine in front sends requests next: another one, or all processes of the app that answer. */
  readonly upstreams: readonly Upstream[]
  /** The instances of another part. Engines are placed from the inside outwards: those that this one needs are placed already. */
  placed(part: string): readonly PlacedEngine[]
  /** A random secret of its own. */
  readonly secret: string
}

export interface Listen {
  readonly host: string
  readonly port: number
  /** A socket that is bound to it already, and that other parts may share. */
  readonly socketFd?: number | undefined
}

/** How an engine in front speaks TLS. */
export interface Tls {
  /** The certificate, those of its issuers, and the key, as PEM without empty lines. */
  readonly pem: string
  /** The port that leads clients of plain http to https. */
  readonly plainPort: number | undefined
  /** Whether the app answers challenges of ACME, which are asked for on the plain port. */
  readonly acme: boolean
  readonly hstsDays: number
}

/** TLS 1.2 and newer with forward secrecy and authenticated encryption: Mozilla's "intermediate" of 2024, without DHE. */
export const tlsCiphers = [
  ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
  ...['ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'],
].join(':')

export function hstsHeader({ hstsDays }: Pick<Tls, 'hstsDays'>): string | undefined {
  return hstsDays === 0 ? undefined : `max-age=${hstsDays * 86_400}`
}

/** `name` is that of the part, `address` is `address:port`. */
export interface Upstream {
  readonly name: string
  readonly address: string
  /** The group of modules that it runs; `undefined`: all that no group has. */
  readonly group?: string | undefined
}

/** Which group answers what. */
export interface Routing {
  readonly groups: readonly { readonly name: string; readonly modules: readonly string[] }[]
  /** A request belongs to the first rule that it matches, otherwise to no group. */
  readonly rules: readonly RouteRule[]
}

export interface RouteRule {
  /** A regular expression (PCRE) for `GET:/api/tags`, anchored. */
  readonly pattern: string
  /** `undefined`: the processes that have no group. */
  readonly group: string | undefined
}

export interface PlacedEngine {
  /** Where it listens, without a password. */
  readonly address: string
  readonly dir: string
  readonly log: string
  /** What it is started with; may contain secrets. */
  readonly options: object
  /**
   * Environment variables through which the app's processes find it. No other engine may set the same ones, except those of lists
   * (DATABASE_READ_URL, RUNG_REDIS_URL, RUNG_NATS_URL), which are joined.
   */
  readonly environment: Readonly<Record<string, string>>
  start(events: EngineEvents): Promise<RunningPart>
  /** Removes what it leaves behind, once it has been stopped and is no longer wanted. */
  remove?(): Promise<void>
}

export interface EngineEvents {
  /** Called by an engine that restarts itself: with its trouble, and without an argument once it runs again. */
  report(trouble: string | undefined, pid?: number): void
  /** Asked before a database server that was lost is started again; `false` if another one has taken its place. */
  mayReturn(name: string, why: string): Promise<boolean>
  /** Called during a long start, with what it is doing. */
  note(text: string): void
  /** When aborted, a start ends. */
  over: AbortSignal
  /** How long a request may take, in ms. */
  requestTimeoutMs: number
  /** Networks of proxies that the app trusts, besides those of the settings. */
  trustedProxies: readonly string[]
  /** Which group of modules answers what. */
  routing: Routing
}

/** A running part of a fleet. */
export interface RunningPart {
  readonly pid: number | undefined
  /** Resolves when it has ended, with a sentence. */
  readonly exited: Promise<string>
  /** Whether it gives any answer within this time. */
  answers(withinMs: number): Promise<boolean>
  /** Kills it. */
  kill(): void
  stop(): Promise<void>
  /** Applies the options of a changed plan without a restart. A part without this needs none, or a restart. */
  update?(options: object): Promise<void>
  /** Of the entry: asks clients to leave, and resolves when nearly none has a connection any more. Others accept the new ones. */
  retire?(): Promise<void>
  /** Of the part that spreads requests over the processes of the app. */
  readonly balancing?: Balancing | undefined
  /** Of a database server that is one of several. */
  readonly member?: DatabaseMember
}

/** A database server, of which one among several is the primary. */
export interface DatabaseMember {
  readonly name: string
  pid(): number | undefined
  /** Whether this process has started it as the primary, or has promoted it, and no other one has taken its place. */
  isPrimary(): boolean
  /** Whether it is the primary and answers. */
  leads(): boolean
  /**
   * Returns the end of the log that it has received as a replica, once it receives nothing more. `undefined` if it does not answer in time, or
   * cannot tell: after its restart it has received nothing yet, and may not have replayed all that it has.
   */
  received(withinMs: number): Promise<Lsn | undefined>
  /** Makes it the primary, to which these may connect as replicas. */
  promote(replicas: readonly string[]): Promise<void>
  /** As the primary. */
  standbys(): Promise<Standbys>
  /** As the primary: sets for which replicas commits wait, and resolves when that has taken effect. */
  waitFor(replicas: readonly string[]): Promise<void>
}

/** The replicas of a primary. */
export interface Standbys {
  /** The end of its log that is on its disk. */
  readonly end: Lsn
  /** Those for which commits wait: each for any one of them. */
  readonly applied: readonly string[]
  /** Those that receive its log, and how much of it is on their disks. */
  readonly streaming: ReadonlyMap<string, Lsn>
}

/** Changes which processes of the app get requests, while they are running. All of it may be repeated. */
export interface Balancing {
  /** Sends it requests from now on; it is added if it is new. */
  admit(upstream: Upstream): Promise<void>
  /** Sends it no new requests. */
  drain(name: string): Promise<void>
  /** Returns the number of its requests that run or wait, and whether it gets any; `undefined` if the balancer does not know it. */
  look(name: string): Promise<{ requests: number; isUp: boolean } | undefined>
  /** Forgets a process that has ended. */
  forget(name: string): Promise<void>
  /** Leads requests and calls in this way from now on: there may be other groups, and other versions of the app may have other routes. */
  route?(routing: Routing): Promise<void>
}

export interface Leftover {
  pid: number
  address: string
  /** Whether a process uses it, and will stop it. */
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
