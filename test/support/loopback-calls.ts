import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { CallHandlers } from '../../src/app/calls.ts'
import { answerCall, type CallMessage, type CallReply, type Transport } from '../../src/app/crossing.ts'

/** Handlers behind a real HTTP server on this machine, and the transport that reaches them. */
export async function loopbackCalls(handlers: CallHandlers): Promise<{ transport: Transport; close(): Promise<void> }> {
  const server = createServer(async (incoming, outgoing) => {
    const message = JSON.parse(await text(incoming)) as CallMessage
    outgoing.end(JSON.stringify(await answerCall(handlers, message)))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    transport: (message, signal) =>
      new Promise<CallReply>((resolve, reject) => {
        const options = { port, host: '127.0.0.1', method: 'POST', ...(signal && { signal }) }
        const outgoing = request(options, (incoming) => {
          text(incoming).then((body) => resolve(JSON.parse(body)), reject)
        })
        outgoing.on('error', reject)
        outgoing.end(JSON.stringify(message))
      }),
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
