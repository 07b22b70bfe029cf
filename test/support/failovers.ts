import { memberFiles, readPrimacy } from '../../src/engines/postgres/members.ts'
import { processesIn } from '../../src/engines/process/processes-in.ts'
import { type Facts, sendTo, until } from './process.ts'
import { type Outcome, startWriters, type Writers } from './writers.ts'

/** A running `rung up` whose primary is lost again and again, while clients write. */
export interface Failovers extends Outcome, Pick<Writers, 'acknowledged' | 'others' | 'unseen'> {
  /** From the loss to the first answer 201 to a request that was sent after it, in ms. */
  times: { signal: NodeJS.Signals; ms: number }[]
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
  const { facts, dataDir, replicas, signals, writers: count, tell } = options
  const times: Failovers['times'] = []
  const isProtected = () =>
    until(
      async () => (await readPrimacy(dataDir)).synchronous.length === replicas,
      () => `commits wait for ${replicas} replicas`,
    )
  const writers = startWriters([facts], count)
  const { acknowledged, others, unseen } = writers
  let outcome: Outcome | undefined
  try {
    for (const signal of signals) {
      await isProtected()
      const enough = acknowledged.length + 20
      await until(() => acknowledged.length >= enough, 'entries are acknowledged')
      const { primary } = await readPrimacy(dataDir)
      const pids = await processesIn(memberFiles(dataDir, primary).data)
      for (const pid of pids) sendTo(pid, signal)
      const ms = await writers.writtenAgain()
      await until(async () => (await readPrimacy(dataDir)).primary !== primary, `${primary} is replaced`)
      times.push({ signal, ms })
      tell?.(`${times.length} of ${signals.length}: ${primary} ${signal}, written again after ${ms} ms`)
    }
    await isProtected() // the last one is back
  } finally {
    outcome = await writers.end()
  }
  return { times, acknowledged, others, unseen, ...outcome }
}
