import type { Completion, Invocation } from '../../src/history/recorder.ts'
import { createRecorder, type Operation, type Value } from '../../src/history.ts'
import { type Random, seededRandom } from '../../src/kernel/random.ts'

/** What a session does: what it knows when it begins, and what happens at some time until it is answered. */
interface Step {
  invocation: Invocation
  /** Returns what is answered; `undefined` if it is refused, and then nothing has happened. */
  happen(at: number): Completion | undefined
  /** It has happened by now, or never will. */
  settle?(): void
}

type Part = (session: string, at: number) => Step | undefined

/** A part of the world, and what is looked at when all is done. */
interface System {
  part: Part
  last?(): Iterable<Step>
}

export interface WorldOptions {
  seed?: number
  sessions?: number
  /** Share of operations whose outcome nobody knows: half of them happen, also after they were given up. */
  unknown?: number
}

/**
 * A world that keeps everything that it promises, in which sessions act at the same time: all kinds of operations, each of which happens at one
 * instant between its beginning and its end.
 */
export function soundWorld(
  count: number,
  { seed = 1, sessions = 20, unknown = 0.03 }: WorldOptions = {},
): readonly Operation[] {
  const random = seededRandom(seed)
  let now = 0
  const recorder = createRecorder({ now: () => now })
  const events = timeline()
  const log = oneLog()
  const systems = [
    ...registers(random, log, count),
    collection(random),
    requests(random),
    accounts(random),
    queue(random),
    limits(random),
    leases(random),
    primaries(random, log),
  ]
  let begun = 0

  function run(step: Step, isUnknown: boolean, done: () => void): void {
    const operation = recorder.begin(step.invocation)
    const happensAt = now + random() * 4
    const happens = !isUnknown || random() < 0.5
    let answer: Completion | undefined
    events.add(happensAt, () => {
      if (happens) answer = step.happen(now)
      step.settle?.()
    })
    events.add(isUnknown ? now + random() * 6 : happensAt + random() * 4, () => {
      if (isUnknown) operation.info('no answer')
      else if (answer) operation.ok(answer)
      else operation.fail('refused')
      done()
    })
  }

  function next(session: number): void {
    if (begun >= count) return
    const step = systems[Math.floor(random() * systems.length)]!.part(`s${session}`, now)
    const again = () => events.add(now + random() * 2, () => next(session))
    if (step) {
      begun += 1
      run(step, random() < unknown, again)
    } else again()
  }

  for (let session = 0; session < sessions; session += 1) events.add(random(), () => next(session))
  const pass = () => {
    for (let event = events.next(); event; event = events.next()) {
      now = event.at
      event.do()
    }
  }
  pass()
  for (const { last } of systems)
    for (const step of last?.() ?? []) {
      now += 1
      run(step, false, () => {})
      pass()
    }
  return recorder.operations()
}

/** What is going to happen, in the order of time; few at once. */
function timeline() {
  const events: { at: number; do: () => void }[] = []
  return {
    add(at: number, action: () => void): void {
      let index = events.length
      while (index > 0 && events[index - 1]!.at < at) index -= 1
      events.splice(index, 0, { at, do: action })
    },
    next: () => events.pop(),
  }
}

const picker = (random: Random) => (below: number) => Math.floor(random() * below)

/** The log of the primary, in which all commits have a place, and how much of it each session has seen. */
function oneLog() {
  const times: number[] = []
  const seen = new Map<string, number>()
  return {
    times,
    seen,
    append(session: string, at: number): number {
      seen.set(session, times.push(at))
      return times.length
    },
  }
}

type Log = ReturnType<typeof oneLog>

/** Replicas of one primary that are late, and caches of three nodes. */
function registers(random: Random, { times, seen, append }: Log, count: number): System[] {
  const pick = picker(random)
  const keys = Math.max(4, Math.floor(count / 500))
  const byKey = Array.from({ length: keys }, () => [] as { place: number; value: number; version: number }[])
  /** By node and key, what the node has shown or written. */
  const shown = new Map<string, number>()
  let values = 0
  // Odd keys have versions.
  const versionOf = (key: number, version: number) => (key % 2 === 1 ? { version } : {})
  const raise = (map: Map<string, number>, key: string, place: number) =>
    map.set(key, Math.max(map.get(key) ?? 0, place))
  const at = (key: number, place: number) => byKey[key]!.findLast((one) => one.place <= place)

  function commit(session: string, key: number, node: string, value: number, time: number) {
    const place = append(session, time)
    const version = byKey[key]!.length + 1
    byKey[key]!.push({ place, value, version })
    raise(shown, `${node} ${key}`, place)
    return { node, ...versionOf(key, version) }
  }

  const write: Part = (session) => {
    const [key, node, value] = [pick(keys), `web-${pick(3)}`, ++values]
    const basis = byKey[key]!.at(-1)?.value ?? null
    const isUpdate = random() < 0.5
    return {
      invocation: { kind: 'write', session, key: `k${key}`, value, ...(isUpdate && { basedOn: basis }) },
      happen: (time) =>
        isUpdate && (byKey[key]!.at(-1)?.value ?? null) !== basis ? undefined : commit(session, key, node, value, time),
    }
  }
  const read: Part = (session, beganAt) => {
    const [key, node, way] = [pick(keys), `web-${pick(3)}`, pick(4)]
    const [fresh, cached, isBounded] = [way === 0, way === 1, way === 2]
    const staleMsMax = pick(60)
    return {
      invocation: {
        kind: 'read',
        session,
        key: `k${key}`,
        ...(fresh && { fresh }),
        ...(cached && { cached, node }),
        ...(isBounded && { staleMsMax }),
      },
      happen() {
        const least = Math.max(
          seen.get(session) ?? 0,
          fresh ? times.length : 0,
          cached ? (shown.get(`${node} ${key}`) ?? 0) : 0,
          isBounded ? times.findLastIndex((time) => time < beganAt - staleMsMax) + 1 : 0,
        )
        const place = least + pick(Math.min(40, times.length - least) + 1)
        const found = at(key, place)
        raise(seen, session, place)
        if (cached) raise(shown, `${node} ${key}`, place)
        return { node, value: found?.value ?? null, ...versionOf(key, found?.version ?? 0) }
      },
    }
  }
  let counted = 0
  const increment: Part = (session) => ({
    invocation: { kind: 'write', session, key: 'counter' },
    happen(time) {
      append(session, time)
      return { version: ++counted }
    },
  })
  return [{ part: write }, { part: read }, { part: read }, { part: increment }]
}

function collection(random: Random): System {
  const there = new Set<Value>()
  const removable: number[] = []
  let values = 0
  const list = (session: string): Step => ({
    invocation: { kind: 'list', session, key: 'orders', fresh: true },
    happen: () => ({ values: [...there] }),
  })
  return {
    part(session) {
      if (random() < 0.001) return list(session)
      const value = random() < 0.3 ? removable.pop() : undefined
      if (value !== undefined)
        return {
          invocation: { kind: 'remove', session, key: 'orders', value },
          happen() {
            there.delete(value)
            return {}
          },
        }
      const added = ++values
      return {
        invocation: { kind: 'add', session, key: 'orders', value: added },
        happen() {
          there.add(added)
          removable.push(added)
          return {}
        },
      }
    },
    last: () => [list('end')],
  }
}

/** Requests with an Idempotency-Key, which are sent again. */
function requests(random: Random): System {
  const answers = new Map<string, string>()
  const keys: string[] = []
  return {
    part(session) {
      const again = random() < 0.3 ? keys[Math.floor(random() * keys.length)] : undefined
      const key = again ?? `request ${keys.length}`
      if (!again) keys.push(key)
      return {
        invocation: { kind: 'send', session, key },
        happen() {
          if (!answers.has(key)) answers.set(key, `answer ${answers.size}`)
          return { value: answers.get(key)! }
        },
      }
    },
    last: () => [
      {
        invocation: { kind: 'effects', session: 'end', key: 'requests' },
        happen: () => ({ values: [...answers.keys()] }),
      },
    ],
  }
}

function accounts(random: Random): System {
  const names = ['cash', 'goods', 'debts']
  const held: Record<string, number> = { cash: 100, goods: 100, debts: 100 }
  const pick = picker(random)
  let looked = false
  const levels = (session: string): Step => ({
    invocation: { kind: 'levels', session, key: 'accounts', fresh: true },
    happen: () => ({ amounts: { ...held } }),
    settle: () => (looked = true),
  })
  return {
    part(session) {
      if (!looked || random() < 0.1) return levels(session)
      const [from, to] = [names[pick(3)]!, names[pick(3)]!]
      const amount = 1 + pick(5)
      if (from === to) return undefined
      return {
        invocation: { kind: 'change', session, key: 'accounts', amounts: { [from]: -amount, [to]: amount } },
        happen() {
          if (held[from]! < amount) return undefined
          held[from]! -= amount
          held[to]! += amount
          return {}
        },
      }
    },
    last: () => [levels('end')],
  }
}

/** Two groups, for each of which the messages of a key come one after the other, with an inbox. */
function queue(random: Random): System {
  const keys = ['article 1', 'article 2', 'article 3']
  const waiting = new Map(keys.flatMap((key) => ['mailer', 'index'].map((group) => [`${group} ${key}`, [] as Value[]])))
  const busy = new Set<string>()
  const effects: Record<string, Set<Value>> = { mailer: new Set(), index: new Set() }
  const pick = picker(random)
  let values = 0

  function deliver(group: string, key: string, mayFail: boolean): Step | undefined {
    const place = `${group} ${key}`
    const value = waiting.get(place)![0]
    if (busy.has(place) || value === undefined) return undefined
    busy.add(place)
    return {
      invocation: { kind: 'deliver', session: group, key, value },
      happen() {
        if (mayFail && random() < 0.1) return undefined
        effects[group]!.add(value)
        // Whoever answers late is asked again.
        if (!mayFail || random() < 0.9) waiting.get(place)!.shift()
        return {}
      },
      settle: () => void busy.delete(place),
    }
  }
  return {
    part(session) {
      const key = keys[pick(3)]!
      if (random() < 0.6) {
        const group = random() < 0.5 ? 'mailer' : 'index'
        const delivery = deliver(group, key, true)
        if (delivery) return delivery
      }
      const value = `message ${++values}`
      return {
        invocation: { kind: 'publish', session, key, value },
        happen() {
          for (const group of ['mailer', 'index']) waiting.get(`${group} ${key}`)!.push(value)
          return {}
        },
      }
    },
    *last() {
      for (const group of ['mailer', 'index']) {
        for (const key of keys)
          for (let step = deliver(group, key, false); step; step = deliver(group, key, false)) yield step
        yield {
          invocation: { kind: 'drain', session: group, key: 'queue' },
          happen: () => ({ values: [...effects[group]!] }),
        }
      }
    },
  }
}

function limits(random: Random): System {
  const limit = { max: 5, windowMs: 50 }
  const admitted = new Map<string, number[]>()
  return {
    part(session) {
      const key = random() < 0.5 ? 'anna' : 'ben'
      return {
        invocation: { kind: 'take', session, key, limit },
        happen(at) {
          const within = (admitted.get(key) ?? []).filter((time) => time > at - limit.windowMs)
          admitted.set(key, within)
          if (within.length >= limit.max) return undefined
          within.push(at)
          return {}
        },
      }
    },
  }
}

function leases(random: Random): System {
  let job = 0
  let token = 0
  let done = false
  const held = new Map<string, { key: string; token: number }>()
  return {
    part(session) {
      const own = held.get(session)
      if (own && random() < 0.5) {
        held.delete(session)
        return {
          invocation: { kind: 'complete', session, ...own },
          happen() {
            if (done || own.key !== `job ${job}` || own.token !== token) return undefined
            done = true
            return {}
          },
        }
      }
      if (done) {
        job += 1
        done = false
      }
      const key = `job ${job}`
      return {
        invocation: { kind: 'claim', session, key },
        happen() {
          if (done || key !== `job ${job}`) return undefined
          token += 1
          held.set(session, { key, token })
          return { token }
        },
      }
    },
  }
}

/** The primary is lost now and then. */
function primaries(random: Random, { append }: Log): System {
  let token = 1
  let values = 0
  return {
    part(session) {
      if (random() < 0.05) token += 1
      return {
        invocation: { kind: 'write', session, key: 'ledger', value: ++values },
        happen(time) {
          append(session, time)
          return { node: `pg-${token % 3}`, token }
        },
      }
    },
  }
}
