import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { SignalLine } from '../../src/primitives/signals/contract.ts'
import { type Signals, signalsOver } from '../../src/primitives/signals/signals.ts'
import { until } from '../support/process.ts'

export interface LinesUnderTest {
  /** Opens the line of one more process. */
  open(): Promise<SignalLine>
  /** Breaks the lines of all processes, which then repair themselves. */
  breakLines(): Promise<void>
  close(): Promise<void>
}

type Words = ReadonlySet<string> | undefined

/** What every line of signals keeps. */
export function signalsContract(name: string, openLines: () => Promise<LinesUnderTest>): void {
  describe(`signals contract: ${name}`, () => {
    let under: LinesUnderTest
    let lines: SignalLine[]
    let processes: Signals[]
    const heard: Words[][] = [[], []]
    const failures: unknown[] = []

    before(async () => {
      under = await openLines()
      lines = [await under.open(), await under.open()]
      processes = lines.map((line) => signalsOver(line, (error) => failures.push(error)))
      for (const [index, process] of processes.entries()) process.listen('jobs', (words) => heard[index]!.push(words))
      await untilUp()
    })
    after(async () => {
      for (const process of processes) await process.close()
      await under.close()
    })

    const wordsOf = (index: number) => heard[index]!.flatMap((words) => [...(words ?? [])])
    /** Each line says by `undefined` that it is there. */
    const untilUp = () => until(() => heard.every((words) => words.includes(undefined)), 'all lines are up')

    it('carries words to every process, the sender included', async () => {
      processes[0]!.send('jobs', ['a', 'b'])
      for (const index of [0, 1]) {
        await until(() => wordsOf(index).includes('b'), `process ${index} has heard`)
        assert.ok(wordsOf(index).includes('a'))
      }
    })

    it('carries nothing to those who listen to another channel', async () => {
      const cache: Words[] = []
      processes[1]!.listen('cache', (words) => cache.push(words))
      processes[0]!.send('jobs', ['for-jobs'])
      processes[0]!.send('cache', ['for-the-cache'])
      await until(() => cache.some((words) => words?.has('for-the-cache')), 'the cache has heard')
      await until(() => wordsOf(1).includes('for-jobs'), 'the jobs have heard')
      assert.ok(!wordsOf(1).includes('for-the-cache'))
      assert.ok(!cache.some((words) => words?.has('for-jobs')))
    })

    it('puts what is sent in a short time into few messages', async () => {
      let sent = 0
      const line = lines[0]!
      const counting: SignalLine = {
        ...line,
        publish: (message) => {
          sent += 1
          return line.publish(message)
        },
      }
      const chatty = signalsOver(counting, (error) => failures.push(error))
      for (let n = 0; n < 500; n += 1) chatty.send('jobs', [`many-${n}`])
      await until(() => wordsOf(1).filter((word) => word.startsWith('many-')).length >= 500, 'all have come')
      assert.ok(sent <= 3, `${sent} messages`)
    })

    it('says only that there is something when there are too many words for a message', async () => {
      const wordless = () => heard.map((words) => words.filter((one) => one === undefined).length)
      const before = wordless()
      processes[0]!.send(
        'jobs',
        Array.from({ length: 10_000 }, (_, n) => `a-long-name-${n}`),
      )
      // By both: what comes later looks like a line that is up again.
      await until(() => wordless().every((count, index) => count > before[index]!), 'a message without words')
    })

    it('says after a gap that messages may have been missed, and carries again', async () => {
      for (const words of heard) words.length = 0
      await under.breakLines()
      await untilUp()
      processes[1]!.send('jobs', ['after-the-gap'])
      await until(() => wordsOf(0).includes('after-the-gap'), 'the other has heard')
    })
  })
}
