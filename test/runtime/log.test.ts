import assert from 'node:assert/strict'
import { it } from 'node:test'
import { currentScope, runInScope, Scope } from '../../src/kernel/scope.ts'
import { placeOfWork } from '../../src/runtime/log.ts'

it('a line of the log names the request and the trace in which it is written', () => {
  const scope = new Scope('request', 'r1', 'GET /')
  scope.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  assert.deepEqual(
    runInScope(scope, () => placeOfWork(currentScope())),
    { requestId: 'r1', traceId },
  )
  const job = new Scope('job', '7', 'send')
  job.traceparent = scope.traceparent
  assert.deepEqual(
    runInScope(job, () => placeOfWork(currentScope())),
    { traceId },
  )
  assert.deepEqual(placeOfWork(currentScope()), {})
})
