import type { RunningPart } from '../engines/process/engine.ts'
import { atMost, sleep, systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { backoffMs } from '../kernel/random.ts'
import { hangs, paceMs, type Question, type Silence, silenceAfter } from './liveness.ts'
import type { Part } from './placement.ts'

/**
 * Keeps the parts of a plan running.
 *
 *   waiting ──wave──► starting ──► running ──ended by itself──► restarting ──► running …
 *                        │            │ └─────hung, was ended─────► │
 *                        └────────────┴── stop, wave by wave ◄──────┘ ──► stopped
 *
 * A first start that fails stops everything and is reported. Later starts are tried again, forever, at most five seconds
 * apart: `rung ps` shows them, and a full disk or a taken port may not last.
 */
export interface Supervisor {
  /** Resolves when all answer for the first time. */
  readonly ready: Promise<void>
  readonly states: readonly PartState[]
  /** Stops all parts, from the edge inwards. Legal at any time; twice is the same as once. */
  stop(): Promise<void>
}

export interface PartState {
  readonly name: string
  state: 'waiting' | 'starting' | 'running' | 'restarting' | 'stopping' | 'stopped'
  pid: number | undefined
  restarts: number
  /** When this state began, ms since the epoch. */
  since: number
  /** Why it is not running. */
  trouble: string | undefined
  /** Why it was restarted the last time. */
  reason: string | undefined
}

export interface SupervisorOptions {
  parts: readonly Part[]
  /** `mend`: for a part that restarts itself; it reports its trouble, and without an argument that it is back. */
  start(part: Part, over: AbortSignal, mend: (trouble: string | undefined, pid?: number) => void): Promise<RunningPart>
  /** A part that has not answered for this many ms is restarted; 0 is never. */
  unresponsiveAfterMs: number
  /** After each change of a state. */
  onChange(state: PartState): void
}

const restartMs = { base: 100, cap: 5_000 }
/** A part that ran for this long is first restarted after a short pause again. */
const steadyMs = 30_000

interface Supervised {
  part: Part
  state: PartState
  server: RunningPart | undefined
  /** Why it is being killed. */
  hung: string | undefined
  /** Restarts it whenever it ends; resolves at the stop. */
  keeping: Promise<void>
}

export function supervise({ parts, start, unresponsiveAfterMs, onChange }: SupervisorOptions): Supervisor {
  const over = new AbortController()
  const nodes = parts.map((part): Supervised => {
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

  function tell({ state }: Supervised, to: PartState['state'], facts: Partial<PartState> = {}): void {
    Object.assign(state, { state: to, since: systemClock.now(), ...facts })
    onChange(state)
  }

  function tellRestarting(node: Supervised, trouble: string): void {
    const { state } = node
    if (state.state !== 'restarting') tell(node, 'restarting', { pid: undefined, trouble, reason: trouble })
    else if (state.trouble !== trouble) tell(node, 'restarting', { trouble })
  }

  /** Why it was killed tells more than that it was killed. */
  function causeOf(node: Supervised, trouble: string): string {
    const cause = node.hung ?? trouble
    node.hung = undefined
    return cause
  }

  function tellBack(node: Supervised, pid = node.state.pid): void {
    tell(node, 'running', { pid, trouble: undefined, restarts: node.state.restarts + 1 })
  }

  async function launch(node: Supervised): Promise<void> {
    node.server = undefined
    node.server = await start(node.part, over.signal, (trouble, pid) => {
      if (over.signal.aborted) return
      if (trouble !== undefined) tellRestarting(node, causeOf(node, trouble))
      else tellBack(node, pid)
    })
    node.state.pid = node.server.pid
  }

  async function keep(node: Supervised): Promise<void> {
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

  /** Asks it at a steady pace, and kills it when it hangs. A part that starts or has just died is not asked. */
  async function listen(node: Supervised): Promise<void> {
    let silence: Silence | undefined
    while (!over.signal.aborted) {
      const { server } = node
      const { state, since } = node.state
      const asked = await ask(state === 'running' ? server : undefined)
      const isSame = node.state.state === 'running' && node.state.since === since
      silence = isSame ? silenceAfter(silence, asked, unresponsiveAfterMs) : undefined
      if (silence && hangs(silence, unresponsiveAfterMs) && !over.signal.aborted) {
        silence = undefined
        node.hung = `did not answer for ${unresponsiveAfterMs / 1000} s`
        tellRestarting(node, node.hung)
        server!.kill()
      }
      await sleep(Math.max(0, asked.at + paceMs(unresponsiveAfterMs) - systemClock.ticks()), over.signal)
    }
  }

  async function ask(server: RunningPart | undefined): Promise<Question> {
    const at = systemClock.ticks()
    let answered = server === undefined
    const asked = server?.answers(2 * paceMs(unresponsiveAfterMs)).then(
      (said) => {
        answered = said
      },
      () => {},
    )
    await atMost(paceMs(unresponsiveAfterMs), asked ?? Promise.resolve())
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
          if (unresponsiveAfterMs > 0) listen(node).catch(() => {}) // it ends with an aborted wait
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

  function waves(number: (part: Part) => number): Supervised[][] {
    const byNumber = Map.groupBy(nodes, ({ part }) => number(part))
    return [...byNumber].sort(([a], [b]) => a - b).map(([, wave]) => wave)
  }

  const ready = startAll()
  ready.catch(() => {}) // whoever waits for it gets the error
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
