import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Frame, type Gauge, keyOf, nothing } from '../../../src/observe/record/frame.ts'
import { unbounded } from '../../../src/observe/record/snapshot.ts'
import { summarise } from '../../../src/observe/record/summary.ts'

const minuteMs = 60_000
const gauge = (...values: number[]): Gauge => ({
  min: Math.min(...values),
  max: Math.max(...values),
  sum: values.reduce((a, b) => a + b, 0),
  count: values.length,
})

/** A process that has measured until this minute. */
function frameOf(node: string, until: number, gauges: Frame['gauges'], histograms: Frame['histograms'] = {}): Frame {
  return { ...nothing, node, from: 0, to: until * minuteMs, ms: until * minuteMs, gauges, histograms }
}

function poolOf(max: number, busy: Gauge, waiting: Gauge): Frame['gauges'] {
  const key = (state: string) => keyOf({ database: 'main', target: 'write', state })
  return { db_pool_connections: { [key('max')]: gauge(max), [key('busy')]: busy, [key('waiting')]: waiting } }
}

describe('the summary of a window', () => {
  it('adds up the pools of the processes that still run', () => {
    const waits = { db_pool_wait_seconds: { [keyOf({ target: 'write' })]: { sum: 1, counts: { '0.01..0.02': 100 } } } }
    const { pools } = summarise([
      frameOf('a', 60, poolOf(10, gauge(1, 3), gauge(0, 0)), waits),
      frameOf('b', 59, poolOf(10, gauge(4, 10), gauge(0, 7))),
      frameOf('ended', 30, poolOf(10, gauge(10, 10), gauge(90, 90))),
    ])
    assert.deepEqual(
      pools.map(({ waitMs95, ...pool }) => ({ ...pool, waitMs95: Math.round(waitMs95 ?? 0) })),
      [
        {
          ...{ database: 'main', target: 'write', processes: 2, size: 20, busy: 9, busyMax: 10, waitingMax: 7 },
          waitMs95: 20,
        },
      ],
    )
  })

  it('says how far replicas were behind, and nothing if that was not known once', () => {
    const of = (server: string, value: Gauge) => ({ [keyOf({ database: 'main', server })]: value })
    const { replicas } = summarise([
      frameOf('a', 60, {
        db_server_lag_seconds: { ...of('postgres-2', gauge(0.01, 0.03)), ...of('postgres-3', gauge(0.02, unbounded)) },
        db_server_in_rotation: { ...of('postgres-2', gauge(1, 1)), ...of('postgres-3', gauge(1, 0)) },
      }),
    ])
    assert.deepEqual(replicas, [
      { database: 'main', server: 'postgres-2', inRotation: 1, lagMs: 20, lagMsMax: 30 },
      { database: 'main', server: 'postgres-3', inRotation: 0.5, lagMs: null, lagMsMax: null },
    ])
  })

  it('is empty where nothing was recorded', () => {
    const { pools, replicas, routes } = summarise([])
    assert.deepEqual([pools, replicas, routes], [[], [], []])
  })
})
