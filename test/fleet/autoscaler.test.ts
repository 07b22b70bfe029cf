import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type ProcessLook,
  type QueueMemory,
  type ScaleLook,
  type ScaleMemory,
  type ScalePolicy,
  scaleByLoad,
  scaleByQueue,
  webPolicy,
  workerPolicy,
} from '../../src/fleet/autoscaler.ts'
import { countedBetween, quantileMs, readingIn } from '../../src/fleet/readings.ts'
import { leastAt, parseScheduleEntry } from '../../src/topology/schedule.ts'
import { autoscaler, loads, plainRule, reversalsWithin, seeded, simulate } from '../support/scaling.ts'

const bounds = { least: 1, most: 20 }
const policy: ScalePolicy = { ...webPolicy, ...bounds }
const settled = (measures: ProcessLook['measures']): ProcessLook => ({ readyMs: 60_000, measures })
const busy = (count: number, cpu: number) => Array.from({ length: count }, () => settled({ cpu, loop: cpu }))

interface Looks extends Partial<Pick<ScaleLook, 'startMs' | 'now' | 'arrivals' | 'p95Ms' | 'queueMs'>> {
  times?: number
  rules?: ScalePolicy
  from?: ScaleMemory
}

/** Looks at the same processes again and again, every second. */
function looks(
  processes: readonly ProcessLook[],
  { times = 3, rules = policy, from, startMs = 350, now = 0, ...more }: Looks = {},
) {
  let memory = from
  let last: ReturnType<typeof scaleByLoad> | undefined
  for (let time = 0; time < times; time++) {
    last = scaleByLoad(rules, memory, { now: now + time * 1000, processes, startMs, ...more })
    memory = last.memory
  }
  return last!
}

describe('the autoscaler, for processes that answer requests', () => {
  it('asks for so many that each measure is at its target, and one to spare', () => {
    assert.equal(looks(busy(4, 0.9)).target, 7) // 4 × 0.9 / 0.6 = 6
    assert.equal(looks(busy(4, 0.6)).target, 5)
    assert.match(looks(busy(4, 0.9)).reason, /^7 instead of 4: CPU is at 90 %\.$/)
    const idleLoop = Array.from({ length: 2 }, () => settled({ cpu: 0.1, loop: 0.85 }))
    assert.match(looks(idleLoop).reason, /the event loop is busy for 85 % of the time/)
    const waiting = Array.from({ length: 2 }, () => settled({ cpu: 0.2, loop: 0.2, inFlight: 90 }))
    assert.deepEqual(
      [looks(waiting).target, looks(waiting).reason],
      [5, '5 instead of 2: each process answers 90 requests at a time.'],
    )
  })

  it('leaves a number that is nearly right', () => {
    for (const cpu of [0.55, 0.6, 0.65]) assert.equal(looks(busy(5, (cpu * 4) / 5)).target, 5)
  })

  it('changes nothing for one odd look', () => {
    const calm = looks(busy(3, 0.4))
    const odd = scaleByLoad(policy, calm.memory, { now: 3_000, processes: busy(3, 0.89), startMs: 350 })
    assert.equal(odd.target, 3)
    assert.equal(scaleByLoad(policy, odd.memory, { now: 4_000, processes: busy(3, 0.89), startMs: 350 }).target, 6)
  })

  it('knows from the arrivals what processes without time left cannot show', () => {
    const calm = looks(busy(2, 0.3), { times: 60, arrivals: 60 }) // 0.01 of a process-second each
    const { target, reason } = looks(busy(2, 1), { from: calm.memory, now: 60_000, arrivals: 600, times: 2 })
    assert.equal(target, 11)
    assert.match(reason, /600 requests arrive each second/)
    assert.equal(looks(busy(2, 1)).target, 5) // without them twice as many, and the spare one
  })

  it('counts slow answers and waits for connections, unless the processes have little to do', () => {
    assert.match(looks(busy(4, 0.5), { p95Ms: 700 }).reason, /^7 instead of 4: p95 is 700 ms\.$/)
    assert.match(looks(busy(4, 0.5), { queueMs: 150 }).reason, /requests wait for a connection for 150 ms/)
    assert.equal(looks(busy(4, 0.2), { p95Ms: 5_000 }).target, 4)
  })

  it('does not count processes that have just started or are not ready', () => {
    const starting = [{ readyMs: undefined }, { readyMs: 500, measures: { cpu: 1, loop: 1 } }]
    assert.equal(looks([...busy(3, 0.4), ...starting]).target, 5)
    assert.equal(
      looks([...busy(3, 0.4), { readyMs: undefined, measures: { cpu: 1 } }, { readyMs: undefined }]).target,
      5,
    )
  })

  it('keeps the last number while figures are missing', () => {
    const grown = looks(busy(4, 0.9))
    const blind = Array.from({ length: 7 }, (): ProcessLook => ({ readyMs: 60_000 }))
    const { target, reason } = looks(blind, { from: grown.memory, times: 400, now: 3_000 })
    assert.deepEqual([target, reason], [7, '7, as before: there are no figures.'])
    assert.equal(looks([...busy(1, 0.1), ...blind]).target, 8)
    // One that could not be asked counts as just busy enough.
    assert.equal(looks([...busy(4, 0.48), { readyMs: 60_000 }]).target, 5)
  })

  it('has fewer only after the cooldown, and never while a rise is forecast', () => {
    const grown = looks(busy(7, 0.5))
    assert.equal(looks(busy(7, 0.1), { from: grown.memory, now: 3_000, times: 250 }).target, 7)
    const later = looks(busy(7, 0.1), { from: grown.memory, now: 3_000, times: 330 })
    assert.deepEqual([later.target, later.reason], [3, '3 instead of 7: no more were needed for 5m 0s.'])
    const rising = looks(busy(7, 0.1), {
      from: { ...later.memory, trend: 0.1 },
      now: 340_000,
      times: 1,
      startMs: 60_000,
    })
    assert.deepEqual([rising.target, rising.reason], [7, '7: fewer would do now, but a rise is forecast.'])
  })

  it('starts processes for a rise before it is there, the earlier the longer a start takes', () => {
    const growing = (startMs: number) => {
      let memory: ScaleMemory | undefined
      let target = 0
      for (let time = 0; time < 120; time++) {
        const decision = scaleByLoad(policy, memory, {
          now: time * 1000,
          processes: busy(4, 0.2 + time * 0.002),
          startMs,
        })
        memory = decision.memory
        target = decision.target
      }
      return target
    }
    assert.equal(growing(350), 4)
    assert.equal(growing(60_000), 5)
    assert.equal(growing(180_000), 6)
  })

  it('never has less than a schedule says, nor than the peak of the last week where a start is slow', () => {
    const entry = parseScheduleEntry('mon-fri 08:00-18:00 6')!
    const rules = { ...policy, scheduled: (now: number) => leastAt([entry], now) }
    const monday = Date.UTC(2026, 10, 30, 9)
    assert.deepEqual(
      [looks(busy(2, 0.1), { rules, now: monday }).target, looks(busy(2, 0.1), { rules, now: monday }).reason],
      [6, 'the schedule asks for 6.'],
    )
    const peak = looks(busy(8, 0.6), { times: 5 })
    const day = 86_400_000
    const slow = looks(busy(2, 0.1), { from: peak.memory, now: 6 * day, startMs: 90_000 })
    assert.deepEqual([slow.target, slow.reason], [9, 'the peak of the last week needed 8.'])
    assert.equal(looks(busy(2, 0.1), { from: peak.memory, now: 6 * day, startMs: 350 }).target, 2)
    assert.equal(looks(busy(2, 0.1), { from: peak.memory, now: 8 * day, startMs: 90_000 }).target, 2)
  })

  it('says when the most is not enough', () => {
    const { target, reason } = looks(busy(4, 0.9), { rules: { ...policy, most: 5 } })
    assert.deepEqual([target, reason], [5, '5 instead of 4: CPU is at 90 %; 7 would be needed.'])
    assert.match(looks(busy(5, 0.9), { rules: { ...policy, most: 5 } }).reason, /^5 are the most; 9 would be needed\.$/)
  })

  it('keeps what it promises on any looks', () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = seeded(seed)
      const most = 2 + Math.floor(random() * 20)
      const least = 1 + Math.floor(random() * (most - 1))
      const rules = { ...policy, least, most, cooldownMs: 60_000 }
      let memory: ScaleMemory | undefined
      let present = 1 + Math.floor(random() * 20)
      let now = Math.floor(random() * 1e12)
      let lastWanted = now
      for (let step = 0; step < 200; step++) {
        now += Math.floor(random() * 3_000) + 1
        const figures = random() > 0.2
        const startMs = 10 ** (2 + random() * 3.3)
        const processes = Array.from({ length: present }, (): ProcessLook => {
          const readyMs = random() < 0.1 ? undefined : random() * 20_000
          if (!figures || random() < 0.1) return { readyMs }
          return { readyMs, measures: { cpu: random() * 1.2, loop: random(), inFlight: random() * 200 } }
        })
        const arrivals = random() < 0.5 ? random() * 5_000 : undefined
        const p95Ms = random() < 0.5 ? random() * 5_000 : undefined
        const decision = scaleByLoad(rules, memory, { now, processes, startMs, arrivals, p95Ms })
        const { target, reason } = decision
        const what = `seed ${seed}, step ${step}: ${present} → ${reason}`
        assert.ok(Number.isInteger(target) && target >= least && target <= most, what)
        assert.match(reason, /^\d|^the /, what)
        if (!figures) assert.ok(target >= Math.min(present, most), `fewer without figures; ${what}`)
        if (target < present && present <= most) {
          assert.ok(now - lastWanted >= rules.cooldownMs * 0.9 || memory === undefined, `too early; ${what}`)
        }
        if (target >= present) lastWanted = target > present ? now : lastWanted
        assert.deepEqual({ cost: undefined, ...JSON.parse(JSON.stringify(decision.memory)) }, decision.memory)
        assert.ok(decision.memory.wanted.length <= 12 && decision.memory.peaks.length <= 169)
        assert.deepEqual(scaleByLoad(rules, memory, { now, processes, startMs, arrivals, p95Ms }), decision)
        memory = decision.memory
        if (random() < 0.7) present = target
      }
    }
  })
})

describe('a simulated fleet', () => {
  it('is outside its objective for at most 5 s after a tenfold step, with one process to spare', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const load = loads.step(55, 550, 60)
      const step = simulate({ load, seconds: 180, startMs: 350, first: 2, seed, scaler: autoscaler(policy) })
      assert.ok(step.secondsOutside <= 5, `seed ${seed}: ${step.secondsOutside} s`)
      assert.deepEqual(step.reversals, [])
    }
  })

  it('waits for slow processes at the first step only: the peak of the week is kept after it', () => {
    for (const startMs of [60_000, 180_000]) {
      const load = (second: number) => (second % 3_600 >= 600 && second % 3_600 < 1_800 ? 550 : 55)
      const scaler = autoscaler(policy)
      const first = simulate({ load, seconds: 3_600, startMs, first: 2, scaler })
      assert.ok(first.secondsOutside <= startMs / 1000 + 5, `${first.secondsOutside} s`)
      const again = simulate({ load, seconds: 3_600, startMs, first: first.processes.at(-1)!, scaler })
      assert.equal(again.secondsOutside, 0)
    }
  })

  it('turns at most twice in 5 minutes on a sawtooth, and less than the plain rule', () => {
    for (const startMs of [350, 60_000, 180_000]) {
      for (let seed = 1; seed <= 10; seed++) {
        const load = loads.sawtooth(50, 600, 90 + 20 * seed)
        const options = { load, seconds: 1_800, startMs, first: 2, seed }
        const own = simulate({ ...options, scaler: autoscaler(policy) })
        const plain = simulate({ ...options, scaler: plainRule(bounds) })
        assert.ok(reversalsWithin(own.reversals, 300) <= 2, `seed ${seed}: ${own.reversals}`)
        assert.ok(own.reversals.length < plain.reversals.length)
        assert.ok(own.secondsOutside < plain.secondsOutside)
      }
    }
  })

  it('follows a day, and is not misled by figures that are missing', () => {
    for (const startMs of [350, 60_000, 180_000]) {
      const load = loads.diurnal(50, 800, 3_600)
      const options = { load, seconds: 7_200, startMs, first: 2 }
      const day = simulate({ ...options, scaler: autoscaler(policy) })
      assert.ok(day.secondsOutside <= 5, `${day.secondsOutside} s`)
      const some = simulate({ ...options, missing: 0.3, scaler: autoscaler(policy) })
      assert.ok(some.secondsOutside <= 5, `${some.secondsOutside} s`)
      const gone = simulate({
        ...options,
        missing: (second) => second > 1_800 && second < 2_400,
        scaler: autoscaler(policy),
      })
      const during = gone.processes.slice(1_802, 2_400)
      assert.ok(during.every((count) => count >= during[0]!))
    }
  })
})

describe('the autoscaler, for workers', () => {
  const rules = { ...workerPolicy, least: 1, most: 6 }
  const next = (before: QueueMemory | undefined, now: number, workers: number, oldestMs: number | undefined) =>
    scaleByQueue(rules, before, { now, workers, oldestMs })

  it('adds some in proportion to the age of the oldest job, and waits until they show', () => {
    const first = next(undefined, 0, 2, 15_000)
    assert.deepEqual([first.target, first.reason], [3, '3 instead of 2: the oldest job has waited for 15.0 s.'])
    assert.equal(next(first.memory, 5_000, 3, 20_000).target, 3)
    assert.equal(next(first.memory, 10_000, 3, 90_000).target, 6)
    assert.equal(next(undefined, 0, 6, 90_000).target, 6)
  })

  it('has one fewer when no job has waited for long, and none without figures', () => {
    let memory = next(undefined, 0, 3, 0).memory
    assert.equal(next(memory, 299_000, 3, 100).target, 3)
    const fewer = next(memory, 300_000, 3, 100)
    assert.equal(fewer.target, 2)
    assert.equal(next(fewer.memory, 301_000, 2, 100).target, 2)
    assert.equal(next(memory, 900_000, 3, undefined).target, 3)
    memory = next(memory, 200_000, 3, 6_000).memory
    assert.equal(next(memory, 400_000, 3, 0).target, 3)
    assert.equal(next(undefined, 0, 1, 0).target, 1)
  })
})

describe('what the autoscaler reads', () => {
  const text = (requests: number, fast: number, oldest: number) => `
# TYPE job_oldest_wait_seconds gauge
job_oldest_wait_seconds{queue="mail"} ${oldest}
job_oldest_wait_seconds{queue="event:search"} 0
http_requests_in_flight 3
nodejs_eventloop_utilization 0.25
http_request_duration_seconds_bucket{le="0.1",method="GET",route="/a",status="200"} ${fast}
http_request_duration_seconds_bucket{le="0.5",method="GET",route="/a",status="200"} ${requests}
http_request_duration_seconds_bucket{le="+Inf",method="GET",route="/a",status="200"} ${requests}
http_request_duration_seconds_count{method="GET",route="/a",status="200"} ${requests}
http_request_duration_seconds_bucket{le="0.1",method="GET",route="/readyz",status="200"} 900
http_request_duration_seconds_count{method="GET",route="/readyz",status="200"} 900
`

  it('is in the metrics of each process', () => {
    const [before, now] = [readingIn(text(100, 100, 0)), readingIn(text(300, 200, 12.5))]
    assert.deepEqual([now.requests, now.inFlight, now.loop, now.oldestJobMs], [300, 3, 0.25, 12_500])
    const counted = countedBetween([[before.durations, now.durations]])
    assert.deepEqual(Object.fromEntries(counted), { 100: 100, 500: 200, Infinity: 200 })
    assert.equal(quantileMs(counted, 0.5), 100)
    assert.equal(quantileMs(counted, 0.95), 460)
    assert.equal(quantileMs(new Map(), 0.95), undefined)
    assert.equal(readingIn('').oldestJobMs, undefined)
  })
})

describe('a schedule', () => {
  const at = (text: string) => Date.parse(`${text}Z`) // 2026-11-30 is a Monday
  const least = (entries: string[], time: string) =>
    leastAt(
      entries.map((one) => parseScheduleEntry(one)!),
      at(time),
    )

  it('asks for a least number at times of the week, in UTC', () => {
    const work = ['mon-fri 08:00-18:00 4', 'sat 10:00-14:00 2', '12:00-13:00 6']
    assert.equal(least(work, '2026-11-30T08:00:00'), 4)
    assert.equal(least(work, '2026-11-30T12:30:00'), 6)
    assert.equal(least(work, '2026-11-30T18:00:00'), 0)
    assert.equal(least(work, '2026-12-05T10:00:00'), 2)
    assert.equal(least(work, '2026-12-06T10:00:00'), 0)
    assert.equal(least(['fri-mon 22:00-02:00 3'], '2026-12-01T01:59:00'), 3)
    assert.equal(least(['fri-mon 22:00-02:00 3'], '2026-12-01T22:00:00'), 0)
  })

  it('is refused when it cannot be read', () => {
    for (const wrong of [
      '',
      'mon 8-18 4',
      'mon-fri 08:00-25:00 4',
      'mon 08:00-08:00 4',
      'day 08:00-09:00 1',
      'mon 08:00-09:60 1',
      'mon 08:00-09:00 0',
    ])
      assert.equal(parseScheduleEntry(wrong), undefined, wrong)
  })
})
