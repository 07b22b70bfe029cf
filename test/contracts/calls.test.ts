import { type CallHandlers, callsBy } from '../../src/app/calls.ts'
import { sendOver } from '../../src/app/crossing.ts'
import { localCalls } from '../../src/app/local-calls.ts'
import { loopbackCalls } from '../support/loopback-calls.ts'
import { callsContract } from './calls.ts'

callsContract('in one process', async (contract, handlers, inTransaction) => ({
  calls: localCalls(contract, handlers, { checked: true, inTransaction }),
  async close() {},
}))

callsContract('over HTTP on this machine', async (contract, handlers, inTransaction) => {
  const { transport, close } = await loopbackCalls(handlers as CallHandlers)
  return { calls: callsBy(contract, sendOver(transport), { checked: true, inTransaction }), close }
})
