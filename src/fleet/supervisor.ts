import { isDeepStrictEqual } from 'node:util'
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
 * Parts may be added, removed and restarted while the others run. A first start that fails stops everything and is reported. Later starts are retried forever, at most five seconds apart:
 * `rung ps` shows them, and a full disk or a taken port may be temporary.
 */
export interface Supervisor {
  /** Resolves once all parts have answered. */
  readonly ready: Promise<void>
  /** In the order of the plan. */
  readonly parts: readonly SupervisedPart[]
  /** Aborts when the stop begins. */
  readonly over: AbortSignal
  /** Starts a part, and resolves once it answers; one that does not start is forgotten. */
  add(part: Part): Promise<void>
  /** Stops a part, and forgets it. */
  remove(name: string): Promise<void>
  /** Stops a part and starts it again. One that does not start is retried like any other. */
  restart(name: string, reason: string): Promise<void>
  /** Kills a part, which is then restarted. */
  kill(name: string, reason: string): void
  /**
   * Replaces the parts of these names, in this order: they are used from their next start. Those that run and can be changed
   * without one are changed.
   */
  replan(parts: readonly Part[]): Promise<void>
  /** Stops all parts, from the edge inwards. May be called at any time, and repeatedly. */
  stop(): Promise<void>
}

export interface SupervisedPart {
  readonly part: Part
  readonly state: PartState
  readonly server: RunningPart | undefined
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
  unresponsiveAfterMs(part: Part): number
  /** After each change of a state. */
  onChange(state: PartState): void
}

const restartMs = { base: 100, cap: 5_000 }
/** After a part has run for this long, its next restart comes after a short pause again. */
const steadyMs = 30_000

interface Supervised extends SupervisedPart {
  part: Part
  server: RunningPart | undefined
  /** Ends its restarts: when it is stopped alone, or all are. */
  ending: AbortController
  /** Why it is being killed. */
  hung: string | undefined
  /** Restarts it whenever it ends; resolves at the stop. */
  keeping: Promise<void>
}

export function supervise({ parts, start, unresponsiveAfterMs, onChange }: SupervisorOptions): Supervisor {
  const over = new AbortController()
  let plan = parts
  let all = parts.map(supervised)
  /** Changes that are being made. A stop waits for them, and they end when it begins. */
  const changes = new Set<Promise<unknown>>()

  function supervised(part: Part): Supervised {
    const state: PartState = {
      name: part.name,
      state: 'waiting',
      pid: undefined,
      restarts: 0,
      since: 0,
      trouble: undefined,
      reason: undefined,
    }
    return { part, state, server: undefined, ending: ending(), hung: undefined, keeping: Promise.resolve() }
  }

  function ending(): AbortController {
    const one = new AbortController()
    if (over.signal.aborted) one.abort(over.signal.reason)
    return one
  }

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
    const { part, ending } = supervised
    supervised.server = await start(part, over.signal, (trouble, pid) => {
      if (ending.signal.aborted) return
      if (trouble !== undefined) tellRestarting(supervised, causeOf(supervised, trouble))
      else tellBack(supervised, pid)
    })
    supervised.state.pid = supervised.server.pid
    // The plan may have been changed meanwhile.
    if (!sameOptions(part, supervised.part)) await update(supervised).catch(() => {})
  }

  /** @param failure why its last start failed */
  async function keep(supervised: Supervised, failure?: string): Promise<void> {
    const { signal } = supervised.ending
    for (let attempt = 0; !signal.aborted; ) {
      const upAt = systemClock.ticks()
      let trouble = failure ?? causeOf(supervised, await supervised.server!.exited)
      failure = undefined
      if (systemClock.ticks() - upAt > steadyMs) attempt = 0
      while (!signal.aborted) {
        tellRestarting(supervised, trouble)
        attempt += 1
        try {
          await sleep(backoffMs(attempt, restartMs.base, restartMs.cap), signal)
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
    while (!over.signal.aborted && all.includes(supervised)) {
      const hangsAfterMs = unresponsiveAfterMs(supervised.part)
      if (hangsAfterMs === 0) return
      const { server } = supervised
      const { state, since } = supervised.state
      const asked = await ask(state === 'running' ? server : undefined, hangsAfterMs)
      const isSame = supervised.state.state === 'running' && supervised.state.since === since
      silence = isSame ? silenceAfter(silence, asked, hangsAfterMs) : undefined
      if (silence && hangs(silence, hangsAfterMs) && !over.signal.aborted) {
        silence = undefined
        supervised.hung = `did not answer for ${hangsAfterMs / 1000} s`
        tellRestarting(supervised, supervised.hung)
        server!.kill()
      }
      await sleep(Math.max(0, asked.at + paceMs(hangsAfterMs) - systemClock.ticks()), over.signal)
    }
  }

  async function ask(server: RunningPart | undefined, hangsAfterMs: number): Promise<Question> {
    const at = systemClock.ticks()
    let answered = server === undefined
    const asked = server?.answers(2 * paceMs(hangsAfterMs)).then(
      (any) => {
        answered = any
      },
      () => {},
    )
    await atMost(paceMs(hangsAfterMs), asked ?? Promise.resolve())
    return { at, until: systemClock.ticks(), answered }
  }

  async function startFirst(supervised: Supervised): Promise<void> {
    tell(supervised, 'starting')
    await launch(supervised)
    tell(supervised, 'running')
    supervised.keeping = keep(supervised)
    listen(supervised).catch(() => {}) // rejects when the supervisor stops
  }

  /** Resolves when nothing of it runs. */
  async function end(supervised: Supervised): Promise<void> {
    supervised.ending.abort(new Error(`${supervised.part.name} is being stopped`))
    const stopping = supervised.server?.stop()
    await Promise.all([stopping, supervised.keeping])
    await supervised.server?.stop().catch(() => {}) // a part that started at this moment
  }

  function find(name: string): Supervised {
    const found = all.find(({ part }) => part.name === name)
    if (!found) throw new TypeError(`there is no part ${name}`)
    return found
  }

  async function update({ part, server }: Supervised): Promise<void> {
    if (part.kind === 'engine') await server?.update?.(part.options)
  }

  function inOrder(some: readonly Supervised[]): Supervised[] {
    const at = (one: Supervised) => plan.findIndex(({ name }) => name === one.part.name)
    return some.toSorted((a, b) => at(a) - at(b))
  }

  async function change<T>(work: () => Promise<T>): Promise<T> {
    over.signal.throwIfAborted()
    const running = work().finally(() => changes.delete(running))
    changes.add(running)
    return running
  }

  const add = async (part: Part): Promise<void> => {
    const one = supervised(part)
    all = inOrder([...all, one])
    try {
      await startFirst(one)
    } catch (error) {
      all = all.filter((other) => other !== one)
      throw error
    }
  }

  const remove = async (name: string): Promise<void> => {
    const one = find(name)
    tell(one, 'stopping')
    await end(one)
    all = all.filter((other) => other !== one)
    tell(one, 'stopped', { pid: undefined, trouble: undefined })
  }

  const restart = async (name: string, reason: string): Promise<void> => {
    const one = find(name)
    tell(one, 'stopping')
    await end(one)
    tellRestarting(one, reason)
    one.ending = ending()
    try {
      await launch(one)
      tellBack(one)
      one.keeping = keep(one)
    } catch (error) {
      one.keeping = keep(one, messageOf(error))
      throw error
    }
  }

  async function startAll(): Promise<void> {
    for (const wave of waves(({ startWave }) => startWave)) {
      const outcomes = await Promise.allSettled(wave.map(startFirst))
      const failed = outcomes.find((outcome) => outcome.status === 'rejected')
      if (failed) throw failed.reason
      over.signal.throwIfAborted()
    }
  }

  async function stopAll(): Promise<void> {
    over.abort(new Error('the fleet is being stopped'))
    for (const { ending } of all) ending.abort(over.signal.reason)
    await ready.catch(() => {})
    await Promise.allSettled(changes)
    const failures: unknown[] = []
    for (const wave of waves(({ stopWave }) => -stopWave)) {
      await Promise.all(
        wave.map(async (supervised) => {
          if (supervised.state.state !== 'waiting') tell(supervised, 'stopping')
          await end(supervised).catch((error) => failures.push(error))
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
    get parts() {
      return all
    },
    over: over.signal,
    add: (part) => change(() => add(part)),
    remove: (name) => change(() => remove(name)),
    restart: (name, reason) => change(() => restart(name, reason)),
    kill(name, reason) {
      const one = find(name)
      one.hung = reason
      one.server?.kill()
    },
    async replan(parts) {
      plan = parts
      all = inOrder(all)
      for (const one of all) {
        const before = one.part
        one.part = parts.find(({ name }) => name === before.name) ?? before
        if (one.state.state === 'running' && !sameOptions(before, one.part)) await update(one)
      }
    },
    stop() {
      stopped ??= stopAll()
      return stopped
    },
  }
}

function sameOptions(a: Part, b: Part): boolean {
  return a.kind !== 'engine' || b.kind !== 'engine' || isDeepStrictEqual(a.options, b.options)
}
