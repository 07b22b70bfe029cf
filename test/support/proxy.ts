import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net'

/** Between a client and a server, to be in the way. */
export interface TestProxy {
  readonly port: number
  /** Where connections from now on lead to. */
  target: NetConnectOpts
  /** Each way. */
  delay(ms: number): void
  /** Takes all bytes, of all connections, and forwards none of them, ever. */
  swallow(): void
  /** As before. Connections whose bytes are gone are broken. */
  flow(): void
  /** Breaks all connections. */
  cut(): void
  close(): void
}

/** On a free TCP port, or on a Unix socket. */
export async function openProxy(target: NetConnectOpts, socketPath?: string): Promise<TestProxy> {
  const pairs = new Set<() => void>()
  let swallows = false
  let latencyMs = 0
  const server = createServer({ allowHalfOpen: false }, (near) => {
    const far = connect(proxy.target)
    const end = () => {
      pairs.delete(end)
      near.destroy()
      far.destroy()
    }
    pairs.add(end)
    forward(near, far)
    forward(far, near)
    for (const socket of [near, far]) socket.setNoDelay(true).on('error', end).on('close', end)
  })

  function forward(from: Socket, to: Socket): void {
    // In their order, whatever the delay becomes: a connection never has it otherwise.
    const waiting: { bytes: Buffer; dueAt: number }[] = []
    function pump(): void {
      for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
        const leftMs = first.dueAt - performance.now()
        if (leftMs > 0) {
          setTimeout(pump, Math.ceil(leftMs))
          return
        }
        waiting.shift()
        to.write(first.bytes)
      }
    }
    from.on('data', (bytes) => {
      if (swallows) return
      waiting.push({ bytes, dueAt: performance.now() + latencyMs })
      if (waiting.length === 1) pump()
    })
  }

  function cut(): void {
    for (const end of [...pairs]) end()
  }

  server.listen(socketPath === undefined ? { port: 0, host: '127.0.0.1' } : { path: socketPath })
  await once(server, 'listening')
  const proxy: TestProxy = {
    port: socketPath === undefined ? (server.address() as AddressInfo).port : 0,
    target,
    delay(ms) {
      latencyMs = ms
    },
    swallow() {
      swallows = true
    },
    flow() {
      swallows = false
      cut()
    },
    cut,
    close() {
      server.close()
      cut()
    },
  }
  return proxy
}
