import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isMainThread, parentPort } from 'node:worker_threads'
import { machineTicks } from '../../src/kernel/clock.ts'

/** A server, in a thread of its own, that answers at once and stalls for a second on demand. It says when the stall was over. */
if (!isMainThread) {
  const server = createServer((_request, response) => void response.end('here you are'))
  server.listen(0, '127.0.0.1', () => parentPort!.postMessage({ port: (server.address() as AddressInfo).port }))
  parentPort!.on('message', (stallMs: number) => {
    const beganAt = machineTicks()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stallMs)
    parentPort!.postMessage({ beganAt, endedAt: machineTicks() })
  })
}
