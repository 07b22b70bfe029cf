import type { Balancing, Routing } from '../engines/process/engine.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { connectionsNeeded, databaseConnections, type Group, type Topology } from '../topology/topology.ts'
import { type Change, changeOf, type Planned } from './change.ts'
import { type ClimbEffects, climb } from './climb.ts'
import type { ControlRequest, Counts, ExtractRequest } from './control.ts'
import { countsOf, nodesOf, sparesFor, withCounts } from './counts.ts'
import { type DeployEffects, deploy, type FleetOperations } from './deploy.ts'
import type { Failover } from './failover.ts'
import type { CommandPart, Part, Plan } from './placement.ts'
import type { SupervisedPart, Supervisor } from './supervisor.ts'

export interface LiveOptions {
  supervisor: Supervisor
  first: Planned
  /**
   * Plans the same fleet with other numbers, and with other groups of modules if they are given; parts of the present plan keep their ports.
   * `as set`: the groups that the settings have.
   */
  replan(counts: Counts, now: Planned, nodes?: ExtractRequest['nodes'] | 'as set'): Promise<Planned>
  /** Called with each plan that is used from now on. */
  onPlan(planned: Planned): void
  /** Told the names of all parts that are about to be removed, and none afterwards. */
  failover: Pick<Failover, 'checkRemoval' | 'setLeaving'>
  /** Requests and jobs end within this time, in ms. */
  slowestStopMs(): number
  /** Which of these groups answers what. */
  routingOf(groups: readonly Group[]): Routing
  deploy: DeployEffects
  climb: ClimbEffects
  /** Whether a kill must be confirmed. */
  isProduction: boolean
}

type Note = (text: string) => void

/** What a fleet is asked for; ranges of numbers are the autoscaler's. */
export type LiveRequest =
  | Exclude<ControlRequest, { command: 'scale' }>
  | ({ readonly command: 'scale' } & Readonly<Record<string, number | string>>)

const lookEveryMs = 20
/** How long a process may take from its start until it is ready, and a balancer until it uses it. */
const readyWithinMs = 60_000
const readyzTimeoutMs = 2_000

/**
 * Changes a fleet while it answers requests: one change at a time, no request fails.
 *
 * - A process that is added gets requests once it is ready. One that is removed or restarted gets no new ones first, and is stopped
 *   when it has none (at the latest when requests would time out).
 * - The plan is changed before the balancer is: one that is restarted meanwhile starts with the present processes.
 * - A part that does not start takes its change back.
 */
export function liveFleet(options: LiveOptions): (request: LiveRequest, note: Note) => Promise<unknown> {
  const { supervisor, replan, onPlan, failover, slowestStopMs, routingOf, isProduction } = options
  let now = options.first
  let busy = false

  const checkRemoval = (removed: readonly Part[]) => failover.checkRemoval(namesOf(removed))
  const part = (name: string): SupervisedPart | undefined => supervisor.parts.find((one) => one.part.name === name)
  const isAnswering = (one: Part) => one.kind === 'app' && one.role !== 'worker'
  const isFront = (one: Part) => one.kind === 'engine' && one.isFront
  /** While one is added or removed, either the topology has it or it runs. */
  const hasBalancer = () =>
    (now.topology.balancer.engine !== 'none' || now.topology.edge.engine !== 'none') &&
    supervisor.parts.some(({ part }) => isFront(part))

  /** Asks again while the balancer is being restarted: it comes back with the present plan. */
  async function withBalancer<T>(ask: (balancing: Balancing) => Promise<T>): Promise<T> {
    const began = systemClock.ticks()
    for (;;) {
      try {
        const balancing = supervisor.parts.find(({ server }) => server?.balancing)?.server?.balancing
        if (!balancing) throw new RungError('ENGINE_START_FAILED', 'The balancer does not run. See: rung ps')
        return await ask(balancing)
      } catch (error) {
        if (systemClock.ticks() - began > readyWithinMs) throw error
        await sleep(10 * lookEveryMs, supervisor.over)
      }
    }
  }

  /** Looks until `check` returns true. @returns whether it did in time */
  async function until(withinMs: number, check: () => Promise<boolean>): Promise<boolean> {
    const began = systemClock.ticks()
    while (!(await check())) {
      if (systemClock.ticks() - began > withinMs) return false
      await sleep(lookEveryMs, supervisor.over)
    }
    return true
  }

  async function isReady({ address }: Part): Promise<boolean> {
    return fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(readyzTimeoutMs) }).then(
      async ({ ok, body }) => {
        await body?.cancel()
        return ok
      },
      () => false,
    )
  }

  async function admit(one: Part, note: Note): Promise<void> {
    const { name, address } = one
    if (!isAnswering(one) || !hasBalancer()) return void note(`${name} runs`)
    const { group } = one as CommandPart
    const late = `${name} was not ready within ${readyWithinMs / 1000} s. See: rung logs ${name}`
    if (!(await until(readyWithinMs, () => isReady(one)))) throw new RungError('ENGINE_START_FAILED', late)
    await withBalancer((balancing) => balancing.admit({ name, address, group }))
    const isUp = () => withBalancer(async (balancing) => (await balancing.look(name))?.isUp === true)
    if (!(await until(readyWithinMs, isUp))) throw new RungError('ENGINE_START_FAILED', late)
    if (now.topology.groups.length > 0) await route() // another version may have other routes
    note(`${name} answers`)
  }

  async function route(): Promise<void> {
    await withBalancer(async (balancing) => balancing.route?.(routingOf(now.topology.groups)))
  }

  async function drain(one: Part, note: Note): Promise<void> {
    const { name } = one
    if (!isAnswering(one) || !hasBalancer()) return
    // The one process of 1k has no other in its place. It finishes its requests at its stop.
    if (!othersOf(one).length) return
    await until(readyWithinMs, () => anotherIsUp(one))
    await withBalancer((balancing) => balancing.drain(name))
    let told = -1
    await until(slowestStopMs(), async () => {
      const { requests } = (await withBalancer((balancing) => balancing.look(name))) ?? { requests: 0 }
      if (requests > 0 && requests !== told)
        note(`${name} drains, ${requests} ${requests === 1 ? 'request' : 'requests'} left`)
      told = requests
      return requests === 0
    })
  }

  /** What answers the same requests. */
  function othersOf(one: Part): SupervisedPart[] {
    return supervisor.parts.filter(
      ({ part }) => isAnswering(part) && part.name !== one.name && groupOf(part) === groupOf(one),
    )
  }

  async function anotherIsUp(one: Part): Promise<boolean> {
    const others = othersOf(one).filter(({ state }) => state.state === 'running')
    const looks = await withBalancer((balancing) => Promise.all(others.map(({ part }) => balancing.look(part.name))))
    return looks.some((look) => look?.isUp)
  }

  async function takeOut(one: Part, note: Note): Promise<void> {
    if (!part(one.name)) return
    if (part(one.name)?.server?.member) await checkRemovable(one.name)
    await drain(one, note)
    await part(one.name)?.server?.retire?.()
    await supervisor.remove(one.name)
    if (isAnswering(one) && hasBalancer()) {
      // Its connections are closed, but perhaps not all of them are closed in the balancer yet.
      await withBalancer((balancing) => balancing.forget(one.name))
    }
    if (one.kind === 'engine') await removeData(one)
    note(`${one.name} has stopped`)
  }

  /** A replica leaves nothing behind on its primary, which may have been lost just now and is started again. */
  async function removeData(one: Extract<Part, { kind: 'engine' }>): Promise<void> {
    await one.remove?.().catch(async (error) => {
      if (await primaryAnswers()) throw error
      await untilDatabaseAnswers()
      await one.remove?.()
    })
  }

  /** Whether some server leads and answers, other than this one; also where one server is run, without replicas. */
  async function primaryAnswers(except?: string): Promise<boolean> {
    const members = supervisor.parts.filter(({ server }) => server?.member)
    const others = members.filter(({ part }) => part.name !== except)
    const answers = others.map(async ({ server }) => {
      const one = server!.member!
      if (!one.leads()) return false
      return one.standbys().then(
        () => true,
        () => false,
      )
    })
    return members.length === 0 || (await Promise.all(answers)).includes(true)
  }

  function untilDatabaseAnswers(): Promise<boolean> {
    return until(readyWithinMs, () => primaryAnswers())
  }

  /** The last copy of what was acknowledged may be on a replica, while the primary does not answer. */
  async function checkRemovable(name: string): Promise<void> {
    if (await until(readyWithinMs, () => primaryAnswers(name))) return
    throw new RungError(
      'ENGINE_START_FAILED',
      `${name} stays, because no primary answers within ${readyWithinMs / 1000} s. See: rung logs postgres`,
    )
  }

  async function roll(parts: readonly Part[], note: Note): Promise<void> {
    for (const one of parts) {
      await drain(one, note)
      await supervisor.restart(one.name, 'was told to restart')
      await admit(one, note)
    }
  }

  async function use(next: Planned): Promise<void> {
    now = next
    onPlan(next)
    await supervisor.replan(next.plan.parts)
  }

  async function addAll(parts: readonly Part[], note: Note): Promise<void> {
    const outcomes = await Promise.allSettled(
      parts.map(async (one) => {
        if (!part(one.name)) await supervisor.add(one) // it may be left of a change that went back
        await admit(one, note)
      }),
    )
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed) throw failed.reason
  }

  const change = async (counts: Counts, note: Note) => turnInto(await replan(counts, now), note)

  async function turnInto(next: Planned, note: Note): Promise<void> {
    const change = changeOf(now.plan, next.plan)
    await failover.setLeaving(namesOf(change.removed))
    try {
      await make(change, next, note)
    } finally {
      await failover.setLeaving([])
    }
  }

  async function make({ added, removed, rolled }: Change, next: Planned, note: Note): Promise<void> {
    const before = now
    // A process must not lose a server that it uses: engines that are removed are known until no process uses them.
    const engines = removed.filter(({ kind }) => kind === 'engine')
    // And a group that goes answers until all other processes have its modules again, and has its pools until it has stopped.
    const groups = withLeaving(next.topology.groups, before.topology.groups)
    const isLeaving = groups.length > next.topology.groups.length
    const plan = engines.length === 0 && !isLeaving ? next.plan : withEngines(next.plan, before.plan)
    const during = { plan, topology: { ...next.topology, groups } }
    try {
      await use(during)
      for (const [, wave] of Map.groupBy(added, ({ startWave }) => startWave)) await addAll(wave, note)
    } catch (error) {
      const why = messageOf(error)
      await failover.setLeaving(namesOf(added)).catch((cause) => {
        throw new RungError('ENGINE_START_FAILED', `${why} What was added stays: ${messageOf(cause)}`, { cause: error })
      })
      await use(before).catch(() => {}) // its cause is told
      if (groups.length > before.topology.groups.length) await route().catch(() => {})
      for (const one of added.toReversed()) await takeOut(one, note)
      throw new RungError(
        'ENGINE_START_FAILED',
        `Nothing was changed, because a part did not start or take the change. ${why}`,
        {
          cause: error,
        },
      )
    }
    for (const one of engines.filter(isFront)) await takeOut(one, note)
    await roll(rolled, note) // while those that go still answer
    if (isLeaving) {
      await use({ ...during, topology: next.topology })
      await route()
    }
    for (const one of removed) if (one.kind !== 'engine') await takeOut(one, note)
    if (engines.length > 0 || isLeaving) await use(next)
    for (const one of engines) await takeOut(one, note) // fronts have gone
  }

  /**
   * Changes what stands between the entry and the processes of the app; the entry itself stays. A part that is added gets requests once it
   * finds all processes ready, and one that goes answers those that it has.
   */
  async function turnFrontsInto(next: Planned, note: Note): Promise<void> {
    const before = now
    const { added, removed } = changeOf(before.plan, next.plan)
    const webs = next.plan.parts.filter(isAnswering)
    const balancingOf = ({ name }: Part) => part(name)?.server?.balancing
    const looks = async (one: Part) => Promise.all(webs.map(({ name }) => balancingOf(one)?.look(name)))
    try {
      for (const one of added) {
        await supervisor.add(one)
        const isUp = async () => (await looks(one).catch(() => [undefined])).every((look) => look?.isUp)
        if (!(await until(readyWithinMs, isUp)))
          throw new RungError(
            'ENGINE_START_FAILED',
            `${one.name} does not find all processes of the app ready. See: rung logs`,
          )
      }
      await use(next)
      for (const one of added) note(`${one.name} gets the requests`)
    } catch (error) {
      await use(before).catch(() => {}) // its cause is told
      for (const one of added) if (part(one.name)) await supervisor.remove(one.name)
      throw error
    }
    for (const one of removed) {
      const isIdle = async () => (await looks(one).catch(() => [])).every((look) => !look || look.requests === 0)
      await until(slowestStopMs(), isIdle)
      await supervisor.remove(one.name)
      note(`${one.name} has stopped`)
    }
  }

  async function scale(wanted: Readonly<Record<string, number>>, note: Note): Promise<unknown> {
    const before = countsOf(now.topology)
    const counts = { ...before, ...wanted }
    checkScale(now.topology, counts)
    // Processes are restarted for other replicas: another one must answer meanwhile.
    const rolls = counts.replicas !== before.replicas
    if (rolls) await withSpares(before, now.plan.parts, note)
    if (rolls) await withSpares(counts, now.plan.parts, note)
    await change(counts, note)
    return { before, now: countsOf(now.topology) }
  }

  /** Adds a process beside each of these that answers alone: another one must answer while it is restarted. @returns whether it added any */
  async function withSpares(counts: Counts, parts: readonly Part[], note: Note): Promise<boolean> {
    const spares = sparesFor(counts, parts)
    if (spares.length > 0) await change({ ...counts, ...Object.fromEntries(spares) }, note)
    return spares.length > 0
  }

  async function restart(name: string, note: Note): Promise<unknown> {
    const parts = partsNamed(now.plan, name)
    const counts = countsOf(now.topology)
    const hasSpares = hasBalancer() && (await withSpares(counts, parts, note))
    await roll(parts, note)
    if (hasSpares) await change(counts, note)
    return { restarted: parts.map((one) => one.name) }
  }

  async function reload(note: Note): Promise<unknown> {
    const { rolled } = await regroup('as set', note)
    return { restarted: rolled.map((one) => one.name) }
  }

  /** Turns the fleet into one with other groups of modules. Each of its processes must know where the modules are, so all are restarted. */
  async function regroup(nodes: ExtractRequest['nodes'] | 'as set', note: Note): Promise<Change> {
    const counts = countsOf(now.topology)
    const next = await replan(counts, now, nodes)
    checkRoom(next.topology, countsOf(next.topology))
    const change = changeOf(now.plan, next.plan)
    if (hasBalancer()) await withSpares(counts, change.rolled, note)
    const groups = next.topology.groups
    const changed = groups.find(({ name, modules }) => {
      const present = now.topology.groups.find((one) => one.name === name)
      return present !== undefined && present.modules.join() !== modules.join()
    })
    if (changed)
      throw invalid(
        `The group "${changed.name}" runs with other modules. Join it with the others first: rung extract … --undo`,
      )
    const both = nodesOf(withLeaving(groups, now.topology.groups))
    // First come, then go: each of these steps either needs the new engines, or the old ones.
    if (groups.some(({ name }) => !now.topology.groups.some((one) => one.name === name)))
      await turnInto(await replan(countsOf(now.topology), now, both), note)
    await turnInto(await replan(countsOf(now.topology), now, nodes), note)
    await turnInto(await replan(counts, now), note) // without the spares
    return change
  }

  async function extract({ nodes, from }: ExtractRequest, note: Note): Promise<unknown> {
    const before = nodesOf(now.topology.groups)
    if (JSON.stringify(before) !== JSON.stringify(from))
      throw invalid('The groups of this fleet have been changed meanwhile. Run the command again.')
    if (now.topology.balancer.engine === 'none' || now.topology.processes.both > 0)
      throw invalid('Groups need a balancer, and a process for jobs. Rung 100k has them: rung climb 100k')
    const { added, removed, rolled } = await regroup(nodes, note)
    const after = nodesOf(now.topology.groups)
    return { before, now: after, added: namesOf(added), removed: namesOf(removed), restarted: namesOf(rolled) }
  }

  /** Plans anew, and changes the entry only: it takes its certificate without a restart. */
  async function reloadCertificate(): Promise<unknown> {
    const before = now
    const { plan } = await replan(countsOf(before.topology), before)
    const [entry] = plan.parts // the outermost
    const parts = before.plan.parts.map((one) => (one.name === entry!.name ? entry! : one))
    try {
      await use({ ...before, plan: { ...before.plan, parts } })
    } catch (error) {
      await use(before).catch(() => {}) // its cause is told
      throw error
    }
    return {}
  }

  function kill(name: string, sure: boolean): unknown {
    const found = part(name)
    if (!found) throw unknownPart(now.plan, name)
    checkKill(name, sure)
    const { pid } = found.state
    supervisor.kill(name, 'was killed by rung kill')
    return { killed: name, pid }
  }

  function killZone(zone: string, sure: boolean): unknown {
    const found = partsInZone(now.plan, zone)
    checkKill(`zone ${zone}`, sure)
    for (const name of found) supervisor.kill(name, `was killed with zone ${zone} by rung kill`)
    return { zone, killed: found }
  }

  function checkKill(what: string, sure: boolean): void {
    if (!isProduction || sure) return
    throw invalid(`This fleet runs in production mode (NODE_ENV). If you mean it: rung kill ${what} --yes`)
  }

  const operations: FleetOperations = {
    check() {
      if (!hasBalancer() || now.topology.processes.both > 0) {
        throw invalid('With one process for everything there is nothing to roll: rung stop, then rung up again.')
      }
      const counts = countsOf(now.topology)
      checkRoom(now.topology, {
        ...counts,
        web: counts.web + 1,
        ...Object.fromEntries(sparesFor(counts, now.plan.parts)),
      })
    },
    now: () => now,
    counts: () => countsOf(now.topology),
    replan: (counts) => replan(counts, now),
    use,
    add: (one) => supervisor.add(one),
    restart: (name) => supervisor.restart(name, 'gets another build from rung deploy'),
    admit,
    drain,
    takeOut,
    state: (name) => part(name)?.state,
    over: supervisor.over,
  }

  async function perform(
    request: Exclude<LiveRequest, { command: 'kill' | 'kill-zone' }>,
    note: Note,
  ): Promise<unknown> {
    await supervisor.ready
    if (request.command === 'climb') {
      const turns = { turnInto, turnFrontsInto, untilDatabaseAnswers }
      const fleet = { ...operations, ...turns, checkRemoval, parts: () => supervisor.parts }
      return climb(fleet, options.climb, request, note)
    }
    if (request.command === 'deploy') return deploy(operations, options.deploy, request, note)
    if (request.command === 'reload') return reload(note)
    if (request.command === 'reload-certificate') return reloadCertificate()
    if (request.command === 'extract') return extract(request, note)
    if (request.command === 'restart') return restart(request.part, note)
    const { command: _, ...numbers } = request
    return scale(numbers as Readonly<Record<string, number>>, note)
  }

  return async (request, note) => {
    if (request.command === 'kill') return kill(request.part, request.sure)
    if (request.command === 'kill-zone') return killZone(request.zone, request.sure)
    // A plan is a read. The console asks for one now and then, and must not keep a change from being made.
    const isChange = !(request.command === 'climb' && request.dryRun)
    if (busy && isChange)
      throw new RungError('FLEET_BUSY', 'Another change of this fleet is in progress. Wait until it is done.')
    busy ||= isChange
    try {
      return await perform(request, note)
    } catch (cause) {
      if (!supervisor.over.aborted) throw cause
      throw new RungError('FLEET_NOT_RUNNING', 'The fleet is being stopped, and the change was not completed.', {
        cause,
      })
    } finally {
      if (isChange) busy = false
    }
  }
}

const groupOf = (part: Part) => (part.kind === 'app' ? part.group : undefined)

/**
 * Refuses numbers that the running engines cannot serve.
 * @throws COMMAND_INVALID
 */
export function checkScale(topology: Topology, wanted: Counts): void {
  const { data, balancer, processes } = topology
  const before = countsOf(topology)
  const unknown = Object.keys(wanted).find((name) => !Object.hasOwn(before, name))
  if (unknown !== undefined)
    throw invalid(`There is no part "${unknown}" that can be scaled. There are ${Object.keys(before).join(', ')}.`)
  const front = wanted.web !== before.web || wanted.replicas !== before.replicas
  if (front && (balancer.engine === 'none' || processes.both > 0)) {
    const args = `--web ${wanted.web} --replicas ${wanted.replicas}`
    throw invalid(`Without a balancer these numbers change at a start only: rung stop, then rung up … ${args}`)
  }
  if (processes.both > 0 && wanted.worker !== before.worker)
    throw invalid('Here the process that answers requests runs the jobs, too. Rung 100k has workers: rung climb 100k')
  if (wanted.replicas !== before.replicas && data.engine === 'external') {
    throw invalid(
      'The replicas of your own Postgres are listed in DATABASE_READ_URL: change it, and start rung up again.',
    )
  }
  checkRoom(topology, wanted)
}

/** @throws COMMAND_INVALID if these processes may need more connections than Rung's own Postgres has */
function checkRoom(topology: Topology, wanted: Counts): void {
  const { data, processes } = topology
  if (data.engine !== 'embedded') return
  const processesThen = { both: processes.both, web: wanted.web, worker: wanted.worker }
  const needed = connectionsNeeded({ data, processes: processesThen, groups: withCounts(topology.groups, wanted) })
  const room = databaseConnections(topology)
  if (needed <= room) return
  throw invalid(
    `This may need ${needed} connections, and Postgres was started with ${room}. Stop the fleet and start it with these numbers, or lower RUNG_POOL_READ and RUNG_POOL_WRITE.`,
  )
}

/** `web` is all of web-1, web-2 …; any other name is one part. @throws COMMAND_INVALID */
export function partsNamed(plan: Plan, name: string): Part[] {
  const found = plan.parts.filter(
    (part) => part.name === name || (part.kind === 'app' && part.name.replace(/-\d+$/, '') === name),
  )
  if (found.length === 0) throw unknownPart(plan, name)
  return found
}

/** @throws COMMAND_INVALID */
function partsInZone({ parts, zones }: Plan, zone: string): string[] {
  const found = parts.filter((one) => one.zone === zone).map(({ name }) => name)
  if (found.length > 0) return found
  const known = [...new Set(zones.values())].sort().join(', ')
  throw invalid(
    known === ''
      ? 'This fleet has no zones. Name them at its start: RUNG_ZONES=a,b rung up …'
      : `There is no zone "${zone}" with a part in it. There are ${known}.`,
  )
}

function namesOf(parts: readonly Part[]): string[] {
  return parts.map(({ name }) => name)
}

function unknownPart(plan: Plan, name: string): RungError {
  return invalid(`There is no part "${name}". There are ${plan.parts.map((part) => part.name).join(', ')}.`)
}

function invalid(message: string): RungError {
  return new RungError('COMMAND_INVALID', message)
}

/** Returns the next plan with the engines behind the app as they were before. */
function withEngines(next: Plan, before: Plan): Plan {
  const isBehind = (part: Part) => part.kind === 'engine' && !part.isFront
  return { ...next, parts: [...next.parts.filter((part) => !isBehind(part)), ...before.parts.filter(isBehind)] }
}

/** Returns the groups of both. */
function withLeaving(next: readonly Group[], before: readonly Group[]): Group[] {
  return [...next, ...before.filter((one) => !next.some(({ name }) => name === one.name))]
}
