import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { type CallHandlers, callsBy } from '../../src/app/calls.ts'
import { sendOver } from '../../src/app/crossing.ts'
import { sendHere } from '../../src/app/local-calls.ts'
import { keysOf } from '../../src/kernel/keys.ts'
import { createHttp } from '../../src/primitives/http/http.ts'
import { openCallDoor } from '../../src/runtime/call-door.ts'
import { createLog } from '../../src/runtime/log.ts'
import { remoteCalls } from '../../src/runtime/remote-calls.ts'
import { loopbackCalls } from '../support/loopback-calls.ts'
import { callsContract } from './calls.ts'

callsContract('in one process', async (contract, handlers, inTransaction) => ({
  calls: callsBy(contract, sendHere(handlers as CallHandlers, true), { checked: true, inTransaction }),
  async close() {},
}))

callsContract('over HTTP on this machine', async (contract, handlers, inTransaction) => {
  const { transport, close } = await loopbackCalls(handlers as CallHandlers)
  return { calls: callsBy(contract, sendOver(transport), { checked: true, inTransaction }), close }
})

callsContract('at the door of another process', async (contract, handlers, inTransaction) => {
  const http = await createHttp({ logger: createLog('test', 'silent'), revealing: false })
  const keys = keysOf(randomBytes(32))
  await openCallDoor(http, { contract, handlers: handlers as CallHandlers, keys, tags: { collect: () => () => [] } })
  await http.listen({ host: '127.0.0.1', port: 0 })
  const { port } = http.server.address() as AddressInfo
  const remote = remoteCalls({ url: `http://127.0.0.1:${port}`, keys, tags: { inherit() {} } })
  return {
    calls: callsBy(contract, remote.to('others', contract), { checked: true, inTransaction }),
    async close() {
      remote.close()
      await http.close()
    },
  }
})
