import { memberFiles, readPrimacy } from '../../src/engines/postgres/members.ts'
import { processesIn } from '../../src/engines/process/processes-in.ts'
import { idsIn, post } from './ledger.ts'
import { type Facts, sendTo, until } from './process.ts'

/** A running `rung up` whose primary is lost again and again, while clients write. */
export interface Failovers {
  /** From the loss to the first answer 201 to a request that was sent after it, in ms. */
  times: { signal: NodeJS.Signals; ms: number }[]
  acknowledged: readonly string[]
  /** Of these, what is not there in the end. */
  lost: string[]
  /** Answers other than 201, and how often they came. */
  others: ReadonlyMap<string, number>
}

export interface FailoverOptions {
  facts: Facts
  dataDir: string
  /** How many replicas there are. Each loss waits until any of them may be promoted. */
  replicas: number
  /** What the processes of the primary are sent, one loss after the other. */
  signals: readonly NodeJS.Signals[]
  writers?: number
  tell?: (text: string) => void
}

export async function losePrimaries(options: FailoverOptions): Promise<Failovers> {
  const { facts, dataDir, replicas, signals, writers = 3, tell } = options
  const acknowledged: string[] = []
  const others = new Map<string, number>()
  const times: Failovers['times'] = []
  let over = false
  /** The first acknowledged request that was sent after the loss. */
  let waiting: { since: number; back: (at: number) => void } | undefined

  async function write(writer: number): Promise<void> {
    for (let n = 1; !over; n += 1) {
      const id = `${writer}-${n}`
      const sentAt = performance.now()
      const answer = await post(facts, id)
      if (answer !== '201') {
        others.set(answer, (others.get(answer) ?? 0) + 1)
        continue
      }
      acknowledged.push(id)
      if (waiting && sentAt >= waiting.since) waiting.back(performance.now())
    }
  }
  const isProtected = () =>
    until(
      async () => (await readPrimacy(dataDir)).synchronous.length === replicas,
      () => `commits wait for ${replicas} replicas`,
    )

  const writing = Array.from({ length: writers }, (_, index) => write(index))
  try {
    for (const signal of signals) {
      await isProtected()
      const enough = acknowledged.length + 20
      await until(() => acknowledged.length >= enough, 'entries are acknowledged')
      const { primary } = await readPrimacy(dataDir)
      const pids = await processesIn(memberFiles(dataDir, primary).data)
      const back = Promise.withResolvers<number>()
      for (const pid of pids) sendTo(pid, signal)
      const since = performance.now()
      waiting = { since, back: back.resolve }
      const ms = Math.round((await back.promise) - since)
      waiting = undefined
      await until(async () => (await readPrimacy(dataDir)).primary !== primary, `${primary} is replaced`)
      times.push({ signal, ms })
      tell?.(`${times.length} of ${signals.length}: ${primary} ${signal}, written again after ${ms} ms`)
    }
    await isProtected() // the last one is back
  } finally {
    over = true
    await Promise.all(writing)
  }
  const found = new Set(await idsIn(facts))
  return { times, acknowledged, lost: acknowledged.filter((id) => !found.has(id)), others }
}
