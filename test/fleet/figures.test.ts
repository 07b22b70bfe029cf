import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { cpuTimes, cpuTimesIn, cpuTotalMs, cpuUsedMs } from '../../src/engines/process/cpu.ts'
import { requestsIn } from '../../src/fleet/figures.ts'

describe('the load of a part', () => {
  it('is read from what ps prints on macOS', () => {
    const times = cpuTimesIn('    1     0   3:04.50\n  501     1 1-02:03:04.56\n  502   501 02:03:04\n garbage\n')
    assert.deepEqual(
      [...times],
      [
        [1, { parent: 0, ms: 184_500 }],
        [501, { parent: 1, ms: 93_784_560 }],
        [502, { parent: 501, ms: 7_384_000 }],
      ],
    )
  })

  it('includes the processes that it has started', () => {
    const before = cpuTimesIn('10 1 0:01.00\n11 10 0:02.00\n12 1 0:05.00\n')
    const now = cpuTimesIn('10 1 0:01.10\n11 10 0:02.20\n12 1 0:09.00\n13 11 0:00.30\n')
    assert.equal(cpuUsedMs(10, before, now), 600)
    assert.equal(cpuUsedMs(99, before, now), 0)
  })

  it('includes in total those that have ended', () => {
    const times = new Map([
      [10, { parent: 1, ms: 100, endedMs: 20 }],
      [11, { parent: 10, ms: 3, endedMs: 4 }],
      [12, { parent: 1, ms: 1_000, endedMs: 1_000 }],
    ])
    assert.equal(cpuTotalMs(10, times), 127)
    assert.equal(cpuTotalMs(99, times), 0)
  })

  it('is known of this process', () => {
    const { parent, ms } = cpuTimes().get(process.pid)!
    assert.equal(parent, process.ppid)
    assert.ok(ms > 0)
  })
})

describe('the requests of a process', () => {
  it('are counted without those for health and metrics', () => {
    const line = (route: string, count: number) =>
      `http_request_duration_seconds_count{method="GET",route="${route}",status="200",module="a"} ${count}\n`
    const text = `# HELP x\n${line('/entries', 3)}${line('/readyz', 100)}${line('/healthz', 100)}${line('/entries/:id', 4)}http_requests_in_flight 9\n`
    assert.equal(requestsIn(text), 7)
  })
})
