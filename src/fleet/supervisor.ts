import type { RunningPart } from '../engines/process/engine.ts'
import { atMost, sleep, systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { backoffMs } from '../kernel/random.ts'
import { hangs, paceMs, type Question, type Silence, silenceAfter } from './liveness.ts'
import type { Part } from './placement.ts'

/**
 * Keeps the parts of a plan running, see `supervise`.
 *
 *   waiting ──wave──► starting ──► running ──ended by itself──► restarting ──► running …
 *                        │            │ └─────hung, was ended─────► │
 *                        └────────────┴── stop, wave by wave ◄──────┘ ──► stopped
 *
 * A first start that fails stops everything and is reported. Later starts are retried forever, at most five seconds apart:
 * `rung ps` shows them, and a full disk or a taken port may be temporary.
 */
export interface Supervisor {
  /** Resolves once all parts have answered. */
  readonly ready: Promise<void>
  readonly states: readonly PartState[]
  /** Stops all parts, from the edge inwards. May be called at any time, and repeatedly. */
  stop(): Promise<void>
}

export interface PartState {
  readonly name: string
  state: 'waiting' | 'starting' | 'running' | 'restarting' | 'stopping' | 'stopped'
  pid: number | undefined
  restarts: number
  /** When this state began, ms since the epoch. */
  since: number
  /** Why the part is not running. */
  trouble: string | undefined
  /** Why the part was restarted the last time. */
  reason: string | undefined
}

export interface SupervisorOptions {
  parts: readonly Part[]
  /** `report` is for a part that restarts itself: it reports its trouble, and without an argument that it runs again. */
  start(
    part: Part,
    over: AbortSignal,
    report: (trouble: string | undefined, pid?: number) => void,
  ): Promise<RunningPart>
  /** A part that has not answered for this many ms is restarted; 0 disables this. */
  unresponsiveAfterMs: number
  /** After each change of a state. */
  onChange(state: PartState): void
}

const restartMs = { base: 100, cap: 5_000 }
/** After a part has run for this long, its next restart comes after a short pause again. */
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
  const all = parts.map((part): Supervised => {
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

  function tellRestarting(supervised: Supervised, trouble: string): void {
    const { state } = supervised
    if (state.state !== 'restarting') tell(supervised, 'restarting', { pid: undefined, trouble, reason: trouble })
    else if (state.trouble !== trouble) tell(supervised, 'restarting', { trouble })
  }

  /** Why a part was killed says more than that it was killed. */
  function causeOf(supervised: Supervised, trouble: string): string {
    const cause = supervised.hung ?? trouble
    supervised.hung = undefined
    return cause
  }

  function tellBack(supervised: Supervised, pid = supervised.state.pid): void {
    tell(supervised, 'running', { pid, trouble: undefined, restarts: supervised.state.restarts + 1 })
  }

  async function launch(supervised: Supervised): Promise<void> {
    supervised.server = undefined
    supervised.server = await start(supervised.part, over.signal, (trouble, pid) => {
      if (over.signal.aborted) return
      if (trouble !== undefined) tellRestarting(supervised, causeOf(supervised, trouble))
      else tellBack(supervised, pid)
    })
    supervised.state.pid = supervised.server.pid
  }

  async function keep(supervised: Supervised): Promise<void> {
    for (let attempt = 0; !over.signal.aborted; ) {
      const upAt = systemClock.ticks()
      let trouble = causeOf(supervised, await supervised.server!.exited)
      if (systemClock.ticks() - upAt > steadyMs) attempt = 0
      while (!over.signal.aborted) {
        tellRestarting(supervised, trouble)
        attempt += 1
        try {
          await sleep(backoffMs(attempt, restartMs.base, restartMs.cap), over.signal)
          await launch(supervised)
          tellBack(supervised)
          break
        } catch (error) {
          trouble = messageOf(error)
        }
      }
    }
  }

  /** Asks a running part at a steady pace, and kills it when it hangs. */
  async function listen(supervised: Supervised): Promise<void> {
    let silence: Silence | undefined
    while (!over.signal.aborted) {
      const { server } = supervised
      const { state, since } = supervised.state
      const asked = await ask(state === 'running' ? server : undefined)
      const isSame = supervised.state.state === 'running' && supervised.state.since === since
      silence = isSame ? silenceAfter(silence, asked, unresponsiveAfterMs) : undefined
      if (silence && hangs(silence, unresponsiveAfterMs) && !over.signal.aborted) {
        silence = undefined
        supervised.hung = `did not answer for ${unresponsiveAfterMs / 1000} s`
        tellRestarting(supervised, supervised.hung)
        server!.kill()
      }
      await sleep(Math.max(0, asked.at + paceMs(unresponsiveAfterMs) - systemClock.ticks()), over.signal)
    }
  }

  async function ask(server: RunningPart | undefined): Promise<Question> {
    const at = systemClock.ticks()
    let answered = server === undefined
    const asked = server?.answers(2 * paceMs(unresponsiveAfterMs)).then(
      (any) => {
        answered = any
      },
      () => {},
    )
    await atMost(paceMs(unresponsiveAfterMs), asked ?? Promise.resolve())
    return { at, until: systemClock.ticks(), answered }
  }

  async function startAll(): Promise<void> {
    for (const wave of waves(({ startWave }) => startWave)) {
      const outcomes = await Promise.allSettled(
        wave.map(async (supervised) => {
          tell(supervised, 'starting')
          await launch(supervised)
          tell(supervised, 'running')
          supervised.keeping = keep(supervised)
          if (unresponsiveAfterMs > 0) listen(supervised).catch(() => {}) // rejects when the supervisor stops
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
        wave.map(async (supervised) => {
          if (supervised.state.state !== 'waiting') tell(supervised, 'stopping')
          const stopping = supervised.server?.stop().catch((error) => failures.push(error))
          await Promise.all([stopping, supervised.keeping])
          await supervised.server?.stop().catch(() => {}) // a part that started at this moment
          tell(supervised, 'stopped', { pid: undefined, trouble: undefined })
        }),
      )
    }
    if (failures.length > 0) throw failures[0]
  }

  function waves(number: (part: Part) => number): Supervised[][] {
    const byNumber = Map.groupBy(all, ({ part }) => number(part))
    return [...byNumber].sort(([a], [b]) => a - b).map(([, wave]) => wave)
  }

  const ready = startAll()
  ready.catch(() => {}) // the caller that awaits it gets the error
  let stopped: Promise<void> | undefined
  return {
    ready,
    states: all.map(({ state }) => state),
    stop() {
      stopped ??= stopAll()
      return stopped
    },
  }
}
