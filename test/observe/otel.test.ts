import assert from 'node:assert/strict'
import { it } from 'node:test'
import { machineTime, useTimeSource } from '../../src/kernel/clock.ts'
import { endOf, loadSdk } from '../../src/observe/otel.ts'

it('an export ends though its collector hangs or refuses', async (t) => {
  const timers: (() => void)[] = []
  useTimeSource({
    ...machineTime,
    startTimer(_, fn) {
      timers.push(fn)
      return () => {}
    },
  })
  t.after(() => useTimeSource(machineTime))
  const ended = endOf({ shutdown: () => new Promise<void>(() => {}) })
  assert.equal(timers.length, 1)
  timers[0]!()
  await ended
  await endOf({ shutdown: () => Promise.reject(new Error('refused')) })
})

it('a missing SDK is an error that says what to install', async () => {
  const loading = loadSdk('OTEL_EXPORTER_OTLP_ENDPOINT', ['sdk-trace', 'resources'], () =>
    Promise.reject(new Error('Cannot find package')),
  )
  await assert.rejects(loading, {
    code: 'CONFIG_INVALID',
    message:
      'OTEL_EXPORTER_OTLP_ENDPOINT is set, but the OpenTelemetry SDK cannot be loaded. Run: npm install @opentelemetry/sdk-trace @opentelemetry/resources',
  })
})
