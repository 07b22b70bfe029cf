import type { Begun, Completion, Invocation, Recorder } from '../history/recorder.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import type { Journey } from '../load/scenario.ts'
import type { Visitor } from '../load/visitor.ts'
import { type Client, clientOf, NoSuccess, type ProofUser } from './client.ts'
import type { Once, Proof, Queue } from './proof.ts'

/** One thing that a session does; `undefined` where it cannot do it. */
type Step = (session: Session) => Promise<void>

interface Session {
  readonly name: string
  readonly client: Client
  readonly visitor: Visitor<readonly ProofUser[]>
}

const stepsOfSession = 12
const thinkMs = { least: 20, most: 150 }
const tellAgainMs = 250
const triesMax = 40
const drainWithinMs = 60_000

/** Opens sessions of a proof, and records what they do and see. */
export function proofSessions(proof: Proof, recorder: Recorder) {
  const { registers = [], collections = [], once = [], accounts, queue, pages = [] } = proof
  let count = 0
  /** Letters and digits alone: it may become a part of an address. All that starts so is of this run. */
  const unique = (prefix: string) => {
    count += 1
    return `${prefix}${count}`
  }
  const mistakes: unknown[] = []
  /** The last answer that was no success. */
  let refusal = ''

  /** Records what became of it. An error that is no answer is a mistake of the proof, and not of the app. */
  async function recorded<T>(invocation: Invocation, run: () => Promise<T>, seen: (shown: T) => Completion) {
    const begun = recorder.begin(invocation)
    try {
      begun.ok(seen(await run()))
      return true
    } catch (error) {
      if (error instanceof NoSuccess) refusal = error.message
      else mistakes.push(error)
      note(begun, error)
      return false
    }
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

  /** Sends it until it is known what became of it, as clients do with an Idempotency-Key. */
  async function sendOnce(one: Once, { name: session, client, visitor }: Session): Promise<void> {
    const id = unique('o')
    const sender = clientOf(visitor, client.user, { 'idempotency-key': id })
    for (let tries = 0; tries < triesMax; tries += 1) {
      const invocation = { kind: 'send', session, key: id } as const
      const sent = () => one.send(sender, id)
      if (await recorded(invocation, sent, (answer) => ({ value: JSON.stringify(answer) ?? '' }))) return
      await visitor.think(tellAgainMs)
    }
  }

  const publish = (one: Queue, { name: session, client }: Session) => {
    const value = unique('m')
    return recorded(
      { kind: 'publish', session, key: value, value },
      () => one.publish(client, value),
      () => ({}),
    )
  }

  const readLevels = async (users: readonly ProofUser[], { name: session, visitor }: Session, fresh: boolean) => {
    const of = async (user: ProofUser) => Object.entries(await accounts!.levels(clientOf(visitor, user)))
    const all = async () => Object.fromEntries((await Promise.all(users.map(of))).flat())
    return recorded({ kind: 'levels', session, key: accounts!.name, fresh }, all, (amounts) => ({ amounts }))
  }

  /** Of a page it is an answer that counts, and not what is in it. */
  const open = (page: string, session: string, client: Client) => {
    const opened = () =>
      client.get(page).catch((error) => {
        if (!(error instanceof SyntaxError)) throw error
      })
    return recorded({ kind: 'list', session, key: page }, opened, () => ({ values: [] }))
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
      const readOne: Step = async (session) => void (await read(index, favourite, session))
      const readAny: Step = async (session) => void (await read(index, visitor.pick(all), session))
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
      if (all.length > 0) steps.push(async (session) => void (await list(index, visitor.pick(all), session)))
      if (own.length === 0) continue
      steps.push(async ({ name: session, client }) => {
        const [key, value] = [visitor.pick(own), unique('c')]
        const invocation = { kind: 'add', session, key: `${collection.name} ${key}`, value } as const
        const add = () => collection.add(client, key, value)
        await recorded(invocation, add, () => ({}))
      })
    }
    for (const one of once) steps.push((session) => sendOnce(one, session))
    if (queue) steps.push(async (session) => void (await publish(queue, session)))
    if (accounts)
      steps.push(async ({ name: session, client, visitor }) => {
        const amounts = accounts.plan(client.user, visitor.random)
        const id = unique('a')
        const sender = clientOf(visitor, client.user, { 'idempotency-key': id })
        const invocation = { kind: 'change', session, key: id, amounts } as const
        const change = () => untilKnown(() => accounts.change(sender, amounts))
        await recorded(invocation, change, () => ({}))
      })
    for (const page of pages)
      steps.push(async ({ name: session, client }) => {
        await open(page, session, client)
      })
    return steps
  }

  /** Makes the users, and what they work on, so that the history begins with known values. */
  async function setUp(visitor: Visitor): Promise<readonly ProofUser[]> {
    const users = await proof.users(clientOf(visitor, {}))
    for (const [number, user] of users.entries()) {
      const session = sessionOf(visitor as never, user, `setup ${number}`)
      for (const [index, register] of registers.entries())
        for (const key of register.keys(user)) {
          if ((await write(index, key, session)) && (await read(index, key, session))) continue
          throw mistakes[0] ?? new Error(`${register.name} ${key} cannot be written and read: ${refusal}`)
        }
    }
    for (const page of pages)
      if (!(await open(page, 'setup', clientOf(visitor, users[0]!))))
        throw new Error(`${page} does not answer: ${refusal}`)
    if (accounts) await readLevels(users, sessionOf(visitor as never, users[0]!, 'setup'), true)
    if (mistakes.length > 0) throw mistakes[0]
    return users
  }

  const sessionOf = (visitor: Session['visitor'], user: ProofUser, name: string): Session => {
    return { name, visitor, client: clientOf(visitor, user) }
  }

  const session: Journey<readonly ProofUser[]> = {
    name: 'session',
    async run(visitor) {
      const one = sessionOf(visitor, visitor.pick(visitor.data), `visitor ${visitor.number}`)
      const steps = stepsFor(visitor.data, one)
      for (let n = 0; n < stepsOfSession; n += 1) {
        await visitor.pick(steps)(one)
        await visitor.think(thinkMs.least + visitor.random() * (thinkMs.most - thinkMs.least))
      }
    },
  }

  /**
   * Looks at all that is there in the end. Its session has written before, so it must see everything that was acknowledged by then: also
   * where it reads from replicas.
   */
  const last: Journey<readonly ProofUser[]> = {
    name: 'last look',
    async run(visitor) {
      const users = visitor.data
      const one = sessionOf(visitor, users[0]!, 'last look')
      const again = async (what: () => Promise<boolean>) => {
        for (let tries = 0; tries < triesMax; tries += 1) {
          if (await what()) return
          await sleep(tellAgainMs)
        }
      }
      const touched = registers.findIndex((register) => register.keys(users[0]!).length > 0)
      const key = registers[touched]?.keys(users[0]!)[0]
      if (key !== undefined) await again(() => write(touched, key, one))
      for (const user of users) {
        const mine = sessionOf(visitor, user, one.name)
        for (const [index, register] of registers.entries())
          for (const each of register.keys(user))
            if (each !== key || index !== touched) await again(() => read(index, each, mine, true))
        for (const [index, collection] of collections.entries())
          for (const each of collection.keys(user)) await again(() => list(index, each, mine, true))
      }
      const ofAll = async (effects: (client: Client) => Promise<readonly string[]>, form: RegExp) => {
        const found = await Promise.all(users.map((user) => effects(clientOf(visitor, user))))
        return found.flat().filter((id) => form.test(id))
      }
      if (once.length > 0) {
        const all = async () => (await Promise.all(once.map((each) => ofAll(each.effects, /^o\d+$/)))).flat()
        await again(() =>
          recorded({ kind: 'effects', session: one.name, key: 'effects' }, all, (values) => ({ values })),
        )
      }
      if (accounts) await again(() => readLevels(users, one, true))
      if (queue) await drain(queue, () => ofAll(queue.effects, /^m\d+$/))
    },
  }

  /** Waits until everything that was acknowledged has been worked off, or for too long. */
  async function drain(of: Queue, effects: () => Promise<readonly string[]>) {
    const wanted = recorder
      .operations()
      .flatMap(({ kind, outcome, value }) => (kind === 'publish' && outcome === 'ok' ? [String(value)] : []))
    const giveUpAt = systemClock.ticks() + drainWithinMs
    for (;;) {
      const found: readonly string[] = await effects().catch(() => [])
      const isDone = wanted.every((value) => found.includes(value))
      if (!isDone && systemClock.ticks() < giveUpAt) await sleep(tellAgainMs)
      else break
    }
    await recorded({ kind: 'drain', session: of.name, key: of.name }, effects, (values) => ({ values }))
  }

  return { setUp, session, last, mistakes: mistakes as readonly unknown[] }
}

/** Sends a request with an Idempotency-Key until it is known what became of it. */
async function untilKnown<T>(send: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await send()
    } catch (error) {
      const isRefused =
        error instanceof NoSuccess && error.isCertain && error.status !== undefined && error.status < 500
      if (isRefused || !(error instanceof NoSuccess) || tries >= triesMax) throw error
      await sleep(tellAgainMs)
    }
  }
}

function note(begun: Begun, error: unknown): void {
  if (error instanceof NoSuccess && error.isCertain) begun.fail(error.message)
  else begun.info(error instanceof Error ? error.message : error)
}
