import { checkLostWrites } from '../history/lost.ts'
import type { Completion, Invocation, Recorder } from '../history/recorder.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import type { Journey } from '../load/scenario.ts'
import type { Visitor } from '../load/visitor.ts'
import { type Client, clientOf, NoSuccess, type ProofUser, tellAgainMs, triesMax, untilKnown } from './client.ts'
import type { Accounts, Once, Proof, Queue } from './proof.ts'

/** One thing that a session does. */
type Step = (session: Session) => Promise<unknown>

interface Session {
  readonly name: string
  readonly client: Client
  readonly visitor: Visitor
}

const stepsOfSession = 12
const thinkMs = { least: 20, most: 150 }
const drainWithinMs = 60_000

/** Of requests with a key, this share is sent again although they succeeded. */
const repeatedShare = 0.2

/** Returns which `once` of the proof an id is of. */
export const onceOf = (id: string) => Number(/^o(\d+)n/.exec(id)?.[1] ?? -1)

/** The name of the session that looks at everything in the end. */
export const lastLook = 'last look'

export interface SessionsOptions {
  /** When aborted, no further request is sent, and all sessions end. */
  over: AbortSignal
  /** Called with what a function of the proof has thrown that is no answer of the app. */
  onMistake(error: unknown): void
}

/** Opens sessions of a proof, and records what they do and see. */
export function proofSessions(proof: Proof, recorder: Recorder, { over, onMistake }: SessionsOptions) {
  const { registers = [], collections = [], once = [], accounts, queue, pages = [] } = proof
  let count = 0
  /** Letters and digits alone: it may become a part of an address. All that starts so is of this run. */
  const unique = (prefix: string) => {
    count += 1
    return `${prefix}${count}`
  }
  /** The last answer that was no success. */
  let refusal = ''

  /** Records what became of it. @throws what `run` throws */
  async function record<T>(invocation: Invocation, run: () => Promise<T>, seen: (shown: T) => Completion) {
    const begun = recorder.begin(invocation)
    try {
      begun.ok(seen(await run()))
    } catch (error) {
      if (!(error instanceof NoSuccess)) onMistake(error)
      refusal = messageOf(error)
      if (error instanceof NoSuccess && error.outcome !== 'unknown') begun.fail(refusal)
      else begun.info(refusal)
      throw error
    }
  }

  /** Records it. @returns whether it was a success */
  const recorded: <T>(...of: Parameters<typeof record<T>>) => Promise<boolean> = (...of) =>
    record(...of).then(
      () => true,
      () => false,
    )

  function clientFor<User extends ProofUser>(visitor: Visitor, user: User, headers?: Record<string, string>) {
    const request: typeof visitor.request = async (...sent) => {
      if (over.aborted) throw new Error('The proof is over.')
      return visitor.request(...sent)
    }
    return clientOf({ request }, user, headers)
  }

  const write = (index: number, key: string, { name: session, client }: Session) => {
    const register = registers[index]!
    const value = unique('v')
    const invocation = { kind: 'write', session, key: `${register.name} ${key}`, value } as const
    return recorded(
      invocation,
      () => register.write(client, key, value),
      () => ({}),
    )
  }

  const read = (index: number, key: string, { name: session, client }: Session, fresh = false) => {
    const register = registers[index]!
    const { staleMsMax } = register
    const given = { ...(fresh && { fresh }), ...(staleMsMax !== undefined && { staleMsMax }) }
    const invocation = { kind: 'read', session, key: `${register.name} ${key}`, ...given } as const
    const shown = () =>
      register.read(client, key).catch((error) => {
        if (error instanceof NoSuccess && error.status === 404) return null
        throw error
      })
    return recorded(invocation, shown, (value) => ({ value }))
  }

  const list = (index: number, key: string, { name: session, client }: Session, fresh = false) => {
    const collection = collections[index]!
    const invocation = { kind: 'list', session, key: `${collection.name} ${key}`, ...(fresh && { fresh }) } as const
    return recorded(
      invocation,
      () => collection.list(client, key),
      (values) => ({ values: values.filter((value) => /^c\d+$/.test(value)) }),
    )
  }

  const add = (index: number, key: string, { name: session, client }: Session) => {
    const collection = collections[index]!
    const value = unique('c')
    const invocation = { kind: 'add', session, key: `${collection.name} ${key}`, value } as const
    return recorded(
      invocation,
      () => collection.add(client, key, value),
      () => ({}),
    )
  }

  /** Sends a request with a key until its outcome is known, and some once more: they must not have another effect. */
  async function untilSure<T>(send: () => Promise<T>, visitor: Visitor): Promise<T> {
    const answer = await untilKnown(send, visitor, over)
    if (visitor.random() > 1 - repeatedShare)
      await send().catch((error) => {
        if (!(error instanceof NoSuccess)) throw error
      })
    return answer
  }

  /** Each try is an operation of its own. */
  const sendOnce = (one: Once, { name: session, client, visitor }: Session) => {
    const id = unique(`o${once.indexOf(one)}n`)
    const sender = clientFor(visitor, client.user, { 'idempotency-key': id })
    const answered = (answer: unknown) => ({ value: JSON.stringify(answer) ?? '' })
    const send = () => record({ kind: 'send', session, key: id }, () => one.send(sender, id), answered)
    return untilSure(send, visitor).then(
      () => true,
      () => false,
    )
  }

  const publish = (one: Queue, { name: session, client }: Session) => {
    const value = unique('m')
    return recorded(
      { kind: 'publish', session, key: value, value },
      () => one.publish(client, value),
      () => ({}),
    )
  }

  const change = (of: Accounts, { name: session, client, visitor }: Session) => {
    const amounts = of.plan(client.user, visitor.random)
    const id = unique('a')
    const sender = clientFor(visitor, client.user, { 'idempotency-key': id })
    return recorded(
      { kind: 'change', session, key: id, amounts },
      () => untilSure(() => of.change(sender, amounts), visitor),
      () => ({}),
    )
  }

  const readLevels = async (users: readonly ProofUser[], { name: session, visitor }: Session, fresh: boolean) => {
    const of = async (user: ProofUser) => Object.entries(await accounts!.levels(clientFor(visitor, user)))
    const all = async () => Object.fromEntries((await Promise.all(users.map(of))).flat())
    return recorded({ kind: 'levels', session, key: accounts!.name, fresh }, all, (amounts) => ({ amounts }))
  }

  /** Of a page it is an answer that counts, and not what is in it. */
  const open = (page: string, session: string, client: Client) => {
    return recorded(
      { kind: 'list', session, key: page },
      () => client.get(page),
      () => ({ values: [] }),
    )
  }

  /** All keys, and who may write each. */
  function keysOf(
    list: readonly { keys(user: ProofUser): readonly string[] }[],
    users: readonly ProofUser[],
  ): string[][] {
    return list.map((one) => users.flatMap((user) => one.keys(user)))
  }

  function stepsFor(users: readonly ProofUser[], { client, visitor }: Session): Step[] {
    const [ofRegisters, ofCollections] = [keysOf(registers, users), keysOf(collections, users)]
    const steps: Step[] = []
    for (const [index, register] of registers.entries()) {
      const own = register.keys(client.user)
      const all = register.everybodyReads === false ? own : ofRegisters[index]!
      if (all.length === 0) continue
      // What a session reads it reads again: that is how it would go back in time.
      const favourite = visitor.pick(own.length > 0 && visitor.random() < 0.5 ? own : all)
      const readOne: Step = (session) => read(index, favourite, session)
      const readAny: Step = (session) => read(index, visitor.pick(all), session)
      steps.push(readOne, readOne, readAny)
      if (own.length > 0)
        steps.push(async (session) => {
          const key = own.includes(favourite) ? favourite : visitor.pick(own)
          if (await write(index, key, session)) await read(index, key, session)
        })
    }
    for (const [index, collection] of collections.entries()) {
      const all = ofCollections[index]!
      const own = collection.keys(client.user)
      if (all.length > 0) steps.push((session) => list(index, visitor.pick(all), session))
      if (own.length === 0) continue
      steps.push((session) => add(index, visitor.pick(own), session))
    }
    for (const one of once) steps.push((session) => sendOnce(one, session))
    if (queue) steps.push((session) => publish(queue, session))
    if (accounts) steps.push((session) => change(accounts, session))
    for (const page of pages) steps.push(({ name, client }) => open(page, name, client))
    return steps
  }

  const sessionOf = (visitor: Visitor, user: ProofUser, name: string): Session => {
    return { name, visitor, client: clientFor(visitor, user) }
  }

  /** Makes the users, and what they work on, so that the history begins with known values. */
  async function setUp(visitor: Visitor): Promise<readonly ProofUser[]> {
    const users = await proof.users(clientFor(visitor, {}))
    if (users.length === 0) throw new Error('there are none')
    for (const [number, user] of users.entries()) {
      const session = sessionOf(visitor, user, `setup ${number}`)
      for (const [index, register] of registers.entries())
        for (const key of register.keys(user)) {
          if ((await write(index, key, session)) && (await read(index, key, session))) continue
          throw new Error(`${register.name} ${key} cannot be written and read: ${refusal}`)
        }
    }
    const first = sessionOf(visitor, users[0]!, 'setup')
    for (const page of pages)
      if (!(await open(page, first.name, first.client))) throw new Error(`${page} does not answer: ${refusal}`)
    if (accounts && !(await readLevels(users, first, true)))
      throw new Error(`The levels of ${accounts.name} cannot be read: ${refusal}`)
    return users
  }

  const session: Journey<readonly ProofUser[]> = {
    name: 'session',
    async run(visitor) {
      const one = sessionOf(visitor, visitor.pick(visitor.data), `visitor ${visitor.number}`)
      const steps = stepsFor(visitor.data, one)
      for (let n = 0; n < stepsOfSession && !over.aborted; n += 1) {
        await visitor.pick(steps)(one)
        await visitor.think(thinkMs.least + visitor.random() * (thinkMs.most - thinkMs.least))
      }
    },
  }

  /**
   * Looks at all that is there in the end. Its session writes first, so it must see everything that was acknowledged by then: also where it
   * reads from replicas.
   */
  const last: Journey<readonly ProofUser[]> = {
    name: lastLook,
    async run(visitor) {
      const users = visitor.data
      const one = sessionOf(visitor, users[0]!, lastLook)
      const [touch] = users.flatMap((user) => writesOf(sessionOf(visitor, user, lastLook)))
      if (touch) await again(touch, visitor)
      for (const user of users) {
        const mine = sessionOf(visitor, user, lastLook)
        for (const [index, register] of registers.entries())
          for (const key of register.keys(user)) await again(() => read(index, key, mine, true), visitor)
        for (const [index, collection] of collections.entries())
          for (const key of collection.keys(user)) await again(() => list(index, key, mine, true), visitor)
      }
      for (const page of pages) await again(() => open(page, lastLook, one.client), visitor)
      const ofAll = async (effects: (client: Client) => Promise<readonly string[]>, form: RegExp) => {
        const found = await Promise.all(users.map((user) => effects(clientFor(visitor, user))))
        return found.flat().filter((id) => form.test(id))
      }
      if (once.length > 0) {
        const all = async () => (await Promise.all(once.map((each) => ofAll(each.effects, /^o\d+n\d+$/)))).flat()
        const look = () =>
          recorded({ kind: 'effects', session: lastLook, key: 'effects' }, all, (values) => ({ values }))
        await again(look, visitor)
      }
      if (accounts) await again(() => readLevels(users, one, true), visitor)
      if (queue) await drain(queue, visitor, () => ofAll(queue.effects, /^m\d+$/))
    },
  }

  /** Tries it until it is a success. @returns whether it was one */
  async function again(what: () => Promise<boolean>, { think }: Pick<Visitor, 'think'>): Promise<boolean> {
    for (let tries = 1; ; tries += 1) {
      if (await what()) return true
      if (tries >= triesMax || over.aborted) return false
      await think(tellAgainMs)
    }
  }

  /** All that this session may write. */
  function writesOf(session: Session): (() => Promise<boolean>)[] {
    const { user } = session.client
    return [
      ...collections.flatMap((one, index) => one.keys(user).map((key) => () => add(index, key, session))),
      ...once.map((one) => () => sendOnce(one, session)),
      ...(queue ? [() => publish(queue, session)] : []),
      ...(accounts ? [() => change(accounts, session)] : []),
      // Last, since it replaces a value that somebody may have lost.
      ...registers.flatMap((one, index) => one.keys(user).map((key) => () => replace(index, key, session))),
    ]
  }

  /** Writes a value, once the one before it was looked at: what a replica does not have yet is waited for. */
  async function replace(index: number, key: string, session: Session): Promise<boolean> {
    const isThere = async () => {
      if (!(await read(index, key, session))) return false
      const ofKey = recorder.operations().filter((one) => one.key === `${registers[index]!.name} ${key}`)
      const shown = ofKey.findLastIndex(({ kind, session: by }) => kind === 'read' && by === lastLook)
      return checkLostWrites(ofKey.map((one, n) => (n === shown ? { ...one, fresh: true } : one))).count === 0
    }
    await again(isThere, session.visitor)
    await read(index, key, session, true)
    return again(() => write(index, key, session), session.visitor)
  }

  /** Waits until everything that was acknowledged has been worked off, or for too long. */
  async function drain(of: Queue, visitor: Pick<Visitor, 'think'>, effects: () => Promise<readonly string[]>) {
    const wanted = recorder
      .operations()
      .flatMap(({ kind, outcome, value }) => (kind === 'publish' && outcome === 'ok' ? [String(value)] : []))
    const giveUpAt = systemClock.ticks() + drainWithinMs
    for (;;) {
      const found: readonly string[] = await effects().catch(() => [])
      const isDone = wanted.every((value) => found.includes(value))
      if (isDone || systemClock.ticks() > giveUpAt || over.aborted) break
      await visitor.think(tellAgainMs)
    }
    await recorded({ kind: 'drain', session: of.name, key: of.name }, effects, (values) => ({ values }))
  }

  return { setUp, session, last }
}
