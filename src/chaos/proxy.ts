import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net'
import { after, systemClock } from '../kernel/clock.ts'
import { seededRandom } from '../kernel/random.ts'

/** What a network does to the bytes between a client and a server, in each direction by itself. */
export interface NetworkFaults {
  latencyMs?: number
  /** Added to the latency, up to this much, at random for each piece. The order is kept, as TCP keeps it. */
  jitterMs?: number
  bytesPerSecond?: number
  /** Bytes are passed on in pieces of at most this size, each in a write of its own. */
  sliceBytes?: number
  /** Takes all bytes, and passes none on: of both directions, or of those to the server (`up`) or to the client (`down`). */
  blackHole?: boolean | 'up' | 'down'
}

/** Stands between clients and a server in place of a bad network. It needs no rights, unlike `tc netem`. */
export interface FaultProxy {
  /** On 127.0.0.1; 0 if it listens on a Unix socket. */
  readonly port: number
  /** Where connections from now on lead to. */
  target: NetConnectOpts
  /** How many connections it has. */
  readonly connections: number
  /** From now on these faults and no others, for all connections. */
  set(faults: NetworkFaults): void
  /** As without faults. Connections whose bytes are gone are broken. */
  heal(): void
  /** Closes all connections on both sides. */
  cut(): void
  /** Ends all connections on both sides with RST; a Unix socket has none, and is closed. */
  reset(): void
  /** The server's side of all connections is closed, and its clients never hear of it: the machine is gone. New connections are as before. */
  halfOpen(): void
  close(): void
}

interface Pair {
  near: Socket
  far: Socket
  /** Bytes of it were swallowed. */
  lost: boolean
  end(reset?: boolean): void
}

/** What waits to be passed on in one direction; beyond it the sender has to wait. */
const waitingBytesMax = 1024 ** 2

/** Listens on a free TCP port, or on a Unix socket. */
export async function openProxy(target: NetConnectOpts, socketPath?: string): Promise<FaultProxy> {
  const pairs = new Set<Pair>()
  const random = seededRandom(1)
  let faults: NetworkFaults = {}

  const server = createServer((near) => {
    const far = connect(proxy.target)
    const pair: Pair = {
      near,
      far,
      lost: false,
      end(reset = false) {
        pairs.delete(pair)
        for (const socket of [near, far]) {
          if (reset && socket.remoteAddress) socket.resetAndDestroy()
          else socket.destroy()
        }
      },
    }
    pairs.add(pair)
    forward(pair, near, far, 'up')
    forward(pair, far, near, 'down')
    for (const socket of [near, far]) socket.setNoDelay(true).on('error', () => {})
  })

  function forward(pair: Pair, from: Socket, to: Socket, direction: 'up' | 'down'): void {
    // In their order, whatever their delays are.
    const waiting: { bytes: Buffer; dueAt: number }[] = []
    let waitingBytes = 0
    let freeAt = 0
    let closed = false
    function pump(): void {
      for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
        const leftMs = first.dueAt - systemClock.ticks()
        if (leftMs > 0) {
          after(Math.ceil(leftMs), pump)
          return
        }
        waiting.shift()
        waitingBytes -= first.bytes.length
        to.write(first.bytes)
        // What is written in one turn is read together.
        if (faults.sliceBytes !== undefined && waiting.length > 0) {
          setImmediate(pump)
          return
        }
      }
      if (closed) to.end(() => pair.end())
      else from.resume()
    }
    from.on('data', (bytes) => {
      const { latencyMs = 0, jitterMs = 0, bytesPerSecond, sliceBytes = bytes.length, blackHole } = faults
      if (blackHole === true || blackHole === direction || !pairs.has(pair)) {
        pair.lost = true
        return
      }
      const isIdle = waiting.length === 0
      for (let at = 0; at < bytes.length; at += sliceBytes) {
        const piece = bytes.subarray(at, at + sliceBytes)
        const now = systemClock.ticks()
        if (bytesPerSecond !== undefined) freeAt = Math.max(now, freeAt) + (1_000 * piece.length) / bytesPerSecond
        waiting.push({ bytes: piece, dueAt: Math.max(now, freeAt) + latencyMs + random() * jitterMs })
        waitingBytes += piece.length
      }
      if (waitingBytes > waitingBytesMax) from.pause()
      if (isIdle) pump()
    })
    from.on('close', (hadError) => {
      if (!pairs.has(pair)) return
      closed = true
      if (hadError || waiting.length === 0) pair.end()
    })
  }

  function endAll(reset = false): void {
    for (const pair of [...pairs]) pair.end(reset)
  }

  server.listen(socketPath === undefined ? { port: 0, host: '127.0.0.1' } : { path: socketPath })
  await once(server, 'listening')
  const vanished = new Set<Socket>()
  const proxy: FaultProxy = {
    port: socketPath === undefined ? (server.address() as AddressInfo).port : 0,
    target,
    get connections() {
      return pairs.size
    },
    set(next) {
      faults = next
    },
    heal() {
      faults = {}
      for (const pair of [...pairs]) if (pair.lost) pair.end()
    },
    cut: () => endAll(),
    reset: () => endAll(true),
    halfOpen() {
      for (const { near, far } of pairs) {
        vanished.add(near.on('close', () => vanished.delete(near)))
        far.destroy()
      }
      pairs.clear()
    },
    close() {
      server.close()
      endAll()
      for (const socket of vanished) socket.destroy()
    },
  }
  return proxy
}
