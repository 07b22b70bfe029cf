import type { Operation } from '../../src/history.ts'
import type { Random } from '../../src/kernel/random.ts'

/**
 * Breaks one promise in a history that keeps it, at a place that chance picks among those where it shows. Changes the operations, and returns
 * whether there is such a place.
 */
export type Mutation = (operations: Operation[], random: Random) => boolean

const isOk = ({ outcome }: Operation) => outcome === 'ok'

const pick = <One>(from: readonly One[], random: Random): One | undefined => from[Math.floor(random() * from.length)]

function place<One>(from: readonly One[], random: Random, change: (one: One) => void): boolean {
  const one = pick(from, random)
  if (one !== undefined) change(one)
  return one !== undefined
}

/** A read shows an older value than one that it must show at least; `mustShow` returns which writes these are. */
function older(
  isMeant: (read: Operation) => boolean,
  mustShow: (write: Operation, read: Operation, all: readonly Operation[]) => boolean,
): Mutation {
  return (operations, random) => {
    const writes = operations.filter((one) => one.kind === 'write' && one.key.startsWith('k') && isOk(one))
    const places = operations
      .filter((one) => one.kind === 'read' && isOk(one) && isMeant(one))
      .flatMap((read) => {
        const ofKey = writes.filter(({ key, version }) => key === read.key && version === undefined)
        const newer = ofKey.filter((write) => mustShow(write, read, operations))
        const replaced = ofKey.find((write) => newer.some(({ beganAt }) => write.endedAt < beganAt))
        return replaced ? [{ read, value: replaced.value! }] : []
      })
    return place(places, random, ({ read, value }) => {
      read.value = value
    })
  }
}

const isBefore = (one: Operation, other: Operation) => one.endedAt < other.beganAt
const ofSession = (one: Operation, other: Operation) => one.session === other.session && isBefore(one, other)
const showed = (answer: Operation, write: Operation) => answer.key === write.key && answer.value === write.value

/** By the checker that must find it. */
export const mutations: Record<string, Mutation> = {
  'acknowledged-writes': older(({ fresh }) => fresh === true, isBefore),
  'read-your-writes': older(() => true, ofSession),
  'monotonic-reads': older(
    () => true,
    (write, read, all) =>
      !all.some((one) => one.kind === 'write' && one.key === read.key && ofSession(one, read)) &&
      all.some((one) => one.kind === 'read' && isOk(one) && showed(one, write) && ofSession(one, read)),
  ),
  'writes-follow-reads': older(
    () => true,
    (write, read, all) =>
      !all.some((one) => one.key === read.key && ofSession(one, read)) &&
      all.some((one) => one.kind === 'write' && isOk(one) && ofSession(one, read) && isBefore(write, one)),
  ),
  'bounded-staleness': older(
    ({ staleMsMax }) => staleMsMax !== undefined,
    (write, read) => write.endedAt < read.beganAt - read.staleMsMax!,
  ),
  'no-stale-set': older(
    ({ cached }) => cached === true,
    (write, read, all) =>
      (write.node === read.node && isBefore(write, read)) ||
      all.some((one) => one.cached && isOk(one) && one.node === read.node && showed(one, write) && isBefore(one, read)),
  ),
  'no-lost-update': (operations, random) => {
    const updates = operations.filter((one) => one.kind === 'write' && isOk(one) && one.basedOn !== undefined)
    const one = pick(updates, random)
    const others = updates.filter(({ key, id }) => key === one?.key && id !== one.id)
    return place(others, random, (other) => {
      other.basedOn = one!.basedOn!
    })
  },
  'one-effect': (operations, random) =>
    place(
      operations.filter(({ kind }) => kind === 'effects'),
      random,
      (effects) => {
        effects.values = [...effects.values!, pick(effects.values!, random)!]
      },
    ),
  conservation: (operations) => {
    const last = operations.findLast((one) => one.kind === 'levels' && isOk(one))!
    last.amounts = { ...last.amounts, cash: last.amounts!.cash! + 1 }
    return true
  },
  queue: (operations, random) => {
    const deliveries = operations.filter((one) => one.kind === 'deliver' && isOk(one))
    return place(deliveries, random, ({ value, session }) => {
      const isLost = (one: Operation) => one.kind === 'deliver' && one.value === value && one.session === session
      operations.splice(0, operations.length, ...operations.filter((one) => !isLost(one)))
    })
  },
  'rate-limit': (operations, random) =>
    place(
      operations.filter((one) => one.kind === 'take' && isOk(one)),
      random,
      (take) => {
        const more = Array.from({ length: take.limit!.max }, (_, n) => ({ ...take, id: operations.length + n }))
        operations.push(...more)
      },
    ),
  'fenced-completion': (operations, random) => {
    const isLate = (late: Operation) =>
      operations.some(
        (one) =>
          one.kind === 'claim' && isOk(one) && one.key === late.key && one.token! > late.token! && isBefore(one, late),
      )
    const late = operations.filter((one) => one.kind === 'complete' && one.outcome === 'fail' && isLate(one))
    return place(late, random, (one) => {
      one.outcome = 'ok'
    })
  },
  'single-writer': (operations, random) => {
    const writes = operations.filter((one) => one.key === 'ledger' && isOk(one))
    const late = writes.filter((write) => writes.some((one) => one.token! > 1 && isBefore(one, write)))
    return place(late, random, (write) => {
      write.token = 1
    })
  },
}
