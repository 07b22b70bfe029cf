import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { backoffMs } from '../kernel/random.ts'
import type { Part } from './plan.ts'

/**
 * Keeps the parts of a plan running.
 *
 *   waiting ──wave──► starting ──► running ──ended by itself──► restarting ──► running …
 *                        │            │                             │
 *                        └────────────┴── stop, wave by wave ◄──────┘ ──► stopped
 *
 * A first start that fails stops everything and is told; later ones are tried again, forever, at most five seconds apart:
 * somebody sees them in `rung ps`, and what was a full disk or a taken port may be over.
 */
export interface Supervisor {
  /** When all answer for the first time. */
  readonly ready: Promise<void>
  readonly states: readonly PartState[]
  /** From the edge inwards. Legal at any time; twice is the same as once. */
  stop(): Promise<void>
}

export interface PartState {
  readonly name: string
  state: 'waiting' | 'starting' | 'running' | 'restarting' | 'stopping' | 'stopped'
  pid: number | undefined
  restarts: number
  /** When it came to this state, ms since the epoch. */
  since: number
  /** Why it is not running. */
  trouble: string | undefined
}

/** A part that answers. */
export interface Started {
  readonly pid: number | undefined
  readonly exited: Promise<string>
  stop(): Promise<void>
}

export interface SupervisorOptions {
  parts: readonly Part[]
  /** `mend`: for a part that sees to its own restarts, and tells of them. */
  start(part: Part, over: AbortSignal, mend: (trouble: string | undefined, pid?: number) => void): Promise<Started>
  /** After each change of a state. */
  onChange(state: PartState): void
}

const restartMs = { base: 100, cap: 5_000 }
/** Whoever ran so long starts over with short pauses. */
const steadyMs = 30_000

interface Node {
  part: Part
  state: PartState
  server: Started | undefined
  /** Keeps it running; ends when it is no longer wanted. */
  keeping: Promise<void>
}

export function supervise({ parts, start, onChange }: SupervisorOptions): Supervisor {
  const over = new AbortController()
  const nodes = parts.map((part): Node => {
    const state: PartState = {
      name: part.name,
      state: 'waiting',
      pid: undefined,
      restarts: 0,
      since: 0,
      trouble: undefined,
    }
    return { part, state, server: undefined, keeping: Promise.resolve() }
  })

  function tell({ state }: Node, to: PartState['state'], facts: Partial<PartState> = {}): void {
    Object.assign(state, { state: to, since: systemClock.now(), ...facts })
    onChange(state)
  }

  async function launch(node: Node): Promise<void> {
    node.server = undefined
    node.server = await start(node.part, over.signal, (trouble, pid) => {
      if (over.signal.aborted) return
      if (trouble !== undefined) tell(node, 'restarting', { pid: undefined, trouble })
      else tell(node, 'running', { pid, trouble, restarts: node.state.restarts + 1 })
    })
    node.state.pid = node.server.pid
  }

  async function keep(node: Node): Promise<void> {
    for (let attempt = 0; !over.signal.aborted; ) {
      const upAt = systemClock.ticks()
      let trouble = await node.server!.exited
      if (systemClock.ticks() - upAt > steadyMs) attempt = 0
      while (!over.signal.aborted) {
        tell(node, 'restarting', { pid: undefined, trouble })
        attempt += 1
        try {
          await sleep(backoffMs(attempt, restartMs.base, restartMs.cap), over.signal)
          await launch(node)
          tell(node, 'running', { trouble: undefined, restarts: node.state.restarts + 1 })
          break
        } catch (error) {
          trouble = messageOf(error)
        }
      }
    }
  }

  async function startAll(): Promise<void> {
    for (const wave of waves(({ startWave }) => startWave)) {
      const outcomes = await Promise.allSettled(
        wave.map(async (node) => {
          tell(node, 'starting')
          await launch(node)
          tell(node, 'running')
          node.keeping = keep(node)
        }),
      )
      const failed = outcomes.find((outcome) => outcome.status === 'rejected')
      if (failed) throw failed.reason
      over.signal.throwIfAborted()
    }
  }

  async function stopAll(): Promise<void> {
    over.abort(new Error('the fleet is being stopped'))
    await ready.catch(() => {})
    const failures: unknown[] = []
    for (const wave of waves(({ stopWave }) => -stopWave)) {
      await Promise.all(
        wave.map(async (node) => {
          if (node.state.state !== 'waiting') tell(node, 'stopping')
          const stopping = node.server?.stop().catch((error) => failures.push(error))
          await Promise.all([stopping, node.keeping])
          await node.server?.stop().catch(() => {}) // one that came up at this very moment
          tell(node, 'stopped', { pid: undefined, trouble: undefined })
        }),
      )
    }
    if (failures.length > 0) throw failures[0]
  }

  function waves(number: (part: Part) => number): Node[][] {
    const byNumber = Map.groupBy(nodes, ({ part }) => number(part))
    return [...byNumber].sort(([a], [b]) => a - b).map(([, wave]) => wave)
  }

  const ready = startAll()
  ready.catch(() => {}) // told to whoever waits for it
  let stopped: Promise<void> | undefined
  return {
    ready,
    states: nodes.map(({ state }) => state),
    stop() {
      stopped ??= stopAll()
      return stopped
    },
  }
}
