import { atMost, sleep, systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { backoffMs } from '../kernel/random.ts'
import { type Asked, hangs, paceMs, type Silence, silenceAfter } from './liveness.ts'
import type { Part } from './plan.ts'

/**
 * Keeps the parts of a plan running.
 *
 *   waiting ──wave──► starting ──► running ──ended by itself──► restarting ──► running …
 *                        │            │ └─────hung, was ended─────► │
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
  /** Why it was started again the last time. */
  reason: string | undefined
}

/** A part that answers. */
export interface Started {
  readonly pid: number | undefined
  readonly exited: Promise<string>
  /** Whether it says anything at all. */
  answers(withinMs: number): Promise<boolean>
  /** Ends it at once; `exited` or `mend` tells when it has. */
  kill(): void
  stop(): Promise<void>
}

export interface SupervisorOptions {
  parts: readonly Part[]
  /** `mend`: for a part that sees to its own restarts, and tells of them. */
  start(part: Part, over: AbortSignal, mend: (trouble: string | undefined, pid?: number) => void): Promise<Started>
  /** What has said nothing for so long is ended and started again; 0 is never. */
  silentMsMax: number
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
  /** It is being ended for this. */
  hung: string | undefined
  /** Keeps it running; ends when it is no longer wanted. */
  keeping: Promise<void>
}

export function supervise({ parts, start, silentMsMax, onChange }: SupervisorOptions): Supervisor {
  const over = new AbortController()
  const nodes = parts.map((part): Node => {
    const state: PartState = {
      name: part.name,
      state: 'waiting',
      pid: undefined,
      restarts: 0,
      since: 0,
      trouble: undefined,
      reason: undefined,
    }
    return { part, state, server: undefined, hung: undefined, keeping: Promise.resolve() }
  })

  function tell({ state }: Node, to: PartState['state'], facts: Partial<PartState> = {}): void {
    Object.assign(state, { state: to, since: systemClock.now(), ...facts })
    onChange(state)
  }

  function tellRestarting(node: Node, trouble: string): void {
    const { state } = node
    if (state.state !== 'restarting') tell(node, 'restarting', { pid: undefined, trouble, reason: trouble })
    else if (state.trouble !== trouble) tell(node, 'restarting', { trouble })
  }

  /** That it was killed says less than why it was. */
  function causeOf(node: Node, trouble: string): string {
    const cause = node.hung ?? trouble
    node.hung = undefined
    return cause
  }

  function tellBack(node: Node, pid = node.state.pid): void {
    tell(node, 'running', { pid, trouble: undefined, restarts: node.state.restarts + 1 })
  }

  async function launch(node: Node): Promise<void> {
    node.server = undefined
    node.server = await start(node.part, over.signal, (trouble, pid) => {
      if (over.signal.aborted) return
      if (trouble !== undefined) tellRestarting(node, causeOf(node, trouble))
      else tellBack(node, pid)
    })
    node.state.pid = node.server.pid
  }

  async function keep(node: Node): Promise<void> {
    for (let attempt = 0; !over.signal.aborted; ) {
      const upAt = systemClock.ticks()
      let trouble = causeOf(node, await node.server!.exited)
      if (systemClock.ticks() - upAt > steadyMs) attempt = 0
      while (!over.signal.aborted) {
        tellRestarting(node, trouble)
        attempt += 1
        try {
          await sleep(backoffMs(attempt, restartMs.base, restartMs.cap), over.signal)
          await launch(node)
          tellBack(node)
          break
        } catch (error) {
          trouble = messageOf(error)
        }
      }
    }
  }

  /** Asks it again and again, and ends it when it hangs. What has just died, or starts, is not asked. */
  async function listen(node: Node): Promise<void> {
    let silence: Silence | undefined
    while (!over.signal.aborted) {
      const { server } = node
      const { state, since } = node.state
      const asked = await ask(state === 'running' ? server : undefined)
      const isSame = node.state.state === 'running' && node.state.since === since
      silence = isSame ? silenceAfter(silence, asked, silentMsMax) : undefined
      if (silence && hangs(silence, silentMsMax) && !over.signal.aborted) {
        silence = undefined
        node.hung = `did not answer for ${silentMsMax / 1000} s`
        tellRestarting(node, node.hung)
        server!.kill()
      }
      await sleep(Math.max(0, asked.at + paceMs(silentMsMax) - systemClock.ticks()), over.signal)
    }
  }

  async function ask(server: Started | undefined): Promise<Asked> {
    const at = systemClock.ticks()
    let answered = server === undefined
    const asked = server?.answers(2 * paceMs(silentMsMax)).then(
      (said) => {
        answered = said
      },
      () => {},
    )
    await atMost(paceMs(silentMsMax), asked ?? Promise.resolve())
    return { at, until: systemClock.ticks(), answered }
  }

  async function startAll(): Promise<void> {
    for (const wave of waves(({ startWave }) => startWave)) {
      const outcomes = await Promise.allSettled(
        wave.map(async (node) => {
          tell(node, 'starting')
          await launch(node)
          tell(node, 'running')
          node.keeping = keep(node)
          if (silentMsMax > 0) listen(node).catch(() => {}) // it ends with a wait that is over
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
