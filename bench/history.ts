import { checkHistory, type Operation } from '../src/history.ts'
import { soundHistory } from '../test/history/histories.ts'
import { soundWorld } from '../test/history/world.ts'
import type { Bench } from './run.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'

const sizes = [100_000, 1_000_000]
const kinds: Record<string, (size: number) => readonly Operation[]> = {
  'all kinds': (size) => soundWorld(size, { sessions: 50 }),
  'reads and writes': soundHistory,
}
const targets = { secondsForMillion: 10, timesLinearPass: 40, growth: 3 }
const options = { conservation: { initial: { cash: 100, goods: 100, debts: 100 }, least: 0, closed: true } }

/** What any checker must do at least: look at each operation, and find what is known of its key and of its session. */
function linearPass(operations: readonly Operation[]): number {
  const [keys, sessions] = [new Map<string, number>(), new Map<string, number>()]
  for (const { key, session, endedAt } of operations) {
    keys.set(key, Math.max(keys.get(key) ?? 0, endedAt))
    sessions.set(session, Math.max(sessions.get(session) ?? 0, endedAt))
  }
  return keys.size + sessions.size
}

/** CPU time of this thread in ms: another process on the machine does not count. */
function cpuMsOf(work: () => void): number {
  const before = process.threadCpuUsage()
  work()
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1_000
}

interface Measured {
  seconds: number
  microsOfEach: number
  timesLinearPass: number
}

function measure(history: readonly Operation[]): Measured {
  const pass = cpuMsOf(() => linearPass(history))
  const check = cpuMsOf(() => {
    const wrong = checkHistory(history, options).find(({ count }) => count > 0)
    if (wrong) throw new Error(`A sound history was found wrong by ${wrong.checker}: ${wrong.anomalies[0]?.text}`)
  })
  return { seconds: check / 1_000, microsOfEach: (check * 1_000) / history.length, timesLinearPass: check / pass }
}

const bench: Bench = {
  claim: 'all checkers of a history take a million operations in 10 s on one core, near-linear (it fails otherwise)',
  async run({ json, rounds = 3 }) {
    const rows = Object.entries(kinds).flatMap(([kind, make]) =>
      sizes.map((size) => {
        const history = make(size)
        const measured = Array.from({ length: rounds }, () => measure(history))
        progress(`  ${kind}, ${size}`)
        const of = (name: keyof Measured) => spread(measured.map((one) => one[name]))
        return {
          kind,
          operations: history.length,
          seconds: of('seconds'),
          microsOfEach: of('microsOfEach'),
          timesLinearPass: of('timesLinearPass'),
        }
      }),
    )
    const growth = Object.keys(kinds).map((kind) => {
      const [small, large] = rows.filter((row) => row.kind === kind)
      return large!.microsOfEach.median / small!.microsOfEach.median
    })
    if (!json) {
      const cells = rows.map((row) => [
        row.kind,
        String(row.operations),
        ...[row.seconds, row.microsOfEach].map((one) => inWords(one)),
        inWords(row.timesLinearPass, 1),
      ])
      progress(table([['history', 'operations', 'CPU s', 'µs for each', '× a linear pass'], ...cells]))
      progress(
        `an operation of a history ten times as long takes ${growth.map((one) => one.toFixed(2)).join(' and ')} × as long`,
      )
    }
    const most = {
      secondsForMillion: Math.max(...rows.map(({ seconds }) => seconds.median)),
      timesLinearPass: Math.max(...rows.map(({ timesLinearPass }) => timesLinearPass.median)),
      growth: Math.max(...growth),
    }
    for (const [name, value] of Object.entries(most))
      if (value > targets[name as keyof typeof targets]) throw new Error(`Over the target: ${name} is ${value}.`)
    return {
      claim: bench.claim,
      facts: machineFacts('none'),
      targets,
      growth: growth.map((one) => Number(one.toPrecision(3))),
      histories: rows.map((row) => ({
        ...row,
        seconds: rounded(row.seconds),
        microsOfEach: rounded(row.microsOfEach),
        timesLinearPass: rounded(row.timesLinearPass),
      })),
    }
  },
}
export default bench
