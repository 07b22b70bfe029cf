import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { type FaultProxy, openProxy } from '../../src/chaos/proxy.ts'

/** Answers every byte by the same byte, and `len:123\n` by that many bytes. */
function echo(socket: Socket): void {
  socket
    .on('error', () => {})
    .on('data', (bytes) => {
      const wanted = /^len:(\d+)\n$/.exec(bytes.toString('latin1'))?.[1]
      socket.write(wanted ? Buffer.alloc(Number(wanted), 7) : bytes)
    })
}

describe('a proxy with faults', () => {
  let server: Server
  let proxy: FaultProxy
  const servers = new Set<Socket>()
  const clients = new Set<Socket>()
  before(async () => {
    server = createServer((socket) => {
      servers.add(socket)
      echo(socket)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  beforeEach(async () => {
    proxy = await openProxy({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
  })
  afterEach(() => {
    proxy.close()
    for (const socket of [...clients, ...servers]) socket.destroy()
    clients.clear()
    servers.clear()
  })
  after(() => void server.close())

  async function client(): Promise<Socket> {
    const socket = connect(proxy.port, '127.0.0.1').on('error', () => {})
    clients.add(socket)
    await once(socket, 'connect')
    return socket
  }

  /** Sends, and resolves with the pieces in which so many bytes arrive, and how long that takes. */
  async function ask(socket: Socket, text: string, length = text.length): Promise<{ pieces: Buffer[]; ms: number }> {
    const began = performance.now()
    const pieces: Buffer[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    const collect = (bytes: Buffer) => {
      pieces.push(bytes)
      if (Buffer.concat(pieces).length >= length) resolve()
    }
    socket.on('data', collect).write(text)
    await promise
    socket.off('data', collect)
    return { pieces, ms: performance.now() - began }
  }

  it('passes everything on without a fault', async () => {
    const socket = await client()
    const { pieces } = await ask(socket, 'len:300000\n', 300_000)
    assert.ok(Buffer.concat(pieces).equals(Buffer.alloc(300_000, 7)))
    assert.equal(proxy.connections, 1)
    socket.destroy()
    await once([...servers][0]!, 'close')
    assert.equal(proxy.connections, 0)
  })

  it('latency: each direction takes that long, and order is kept', async () => {
    proxy.set({ latencyMs: 60 })
    const { pieces, ms } = await ask(await client(), 'abcdef')
    assert.equal(Buffer.concat(pieces).toString(), 'abcdef')
    assert.ok(ms >= 119, `${ms} ms`)
  })

  it('jitter: times differ, order does not', async () => {
    proxy.set({ jitterMs: 40, sliceBytes: 1 })
    const text = 'abcdefghijklmnopqrstuvwxyz'
    const { pieces, ms } = await ask(await client(), text)
    assert.equal(Buffer.concat(pieces).toString(), text)
    assert.ok(ms >= 20, `${ms} ms`) // 26 pieces, each up to 40 ms, twice
  })

  it('bandwidth: bytes arrive at that rate', async () => {
    proxy.set({ bytesPerSecond: 100_000 })
    const { ms } = await ask(await client(), 'len:20000\n', 20_000)
    assert.ok(ms >= 199, `${ms} ms`)
  })

  it('bandwidth: whoever sends too much has to wait, and nothing is lost', async () => {
    proxy.set({ bytesPerSecond: 100_000_000 })
    const { pieces } = await ask(await client(), 'len:6000000\n', 6_000_000)
    assert.equal(Buffer.concat(pieces).length, 6_000_000)
  })

  it('slicer: pieces are small, bytes are the same', async () => {
    proxy.set({ sliceBytes: 3 })
    const socket = await client()
    const seen: number[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    let received = 0
    ;[...(await serversOf(1))][0]!.on('data', (bytes) => {
      seen.push(bytes.length)
      received += bytes.length
      if (received === 30) resolve()
    })
    socket.write('x'.repeat(30))
    await promise
    assert.ok(seen.length > 1, `${seen}`) // several writes may arrive in one piece
  })

  it('black hole: nothing arrives, nothing is closed; healing breaks what has lost bytes', async () => {
    const socket = await client()
    await ask(socket, 'a')
    proxy.set({ blackHole: true })
    let arrived = false
    ;[...servers][0]!.once('data', () => {
      arrived = true
    })
    socket.write('b')
    const other = await client() // is accepted
    other.write('c')
    const closed = once(socket, 'close')
    await until(() => proxy.connections === 2)
    assert.equal(socket.destroyed, false)
    // Another proxy passes bytes on in the meantime: the time in which they would have arrived has passed.
    const free = await openProxy(proxy.target)
    const through = connect(free.port, '127.0.0.1').on('error', () => {})
    await ask(through, 'd')
    free.close()
    assert.equal(arrived, false)
    proxy.heal()
    await closed
    assert.equal((await ask(await client(), 'e')).pieces.toString(), 'e')
  })

  it('black hole in one direction: the server gets it, the client gets no answer', async () => {
    proxy.set({ blackHole: 'down' })
    const socket = await client()
    const [far] = [...(await serversOf(1))]
    socket.on('data', () => assert.fail('an answer has arrived'))
    socket.write('hello')
    const [bytes] = (await once(far!, 'data')) as [Buffer]
    assert.equal(bytes.toString(), 'hello')
    await until(() => far!.bytesWritten === 5)
  })

  it('reset: both sides get an error', async () => {
    const socket = await client()
    const [far] = [...(await serversOf(1))]
    const errors = [once(socket, 'error'), once(far!, 'error')]
    proxy.reset()
    for (const [error] of (await Promise.all(errors)) as [NodeJS.ErrnoException][])
      assert.equal(error.code, 'ECONNRESET')
  })

  it('half-open: the server has closed, the client does not hear of it; new connections are as before', async () => {
    const socket = await client()
    await ask(socket, 'a')
    const [far] = [...servers]
    const closed = once(far!, 'close')
    proxy.halfOpen()
    await closed
    socket.write('b')
    assert.equal((await ask(await client(), 'c')).pieces.toString(), 'c')
    assert.equal(socket.destroyed, false)
  })

  it('passes on what is on its way when the server closes', async () => {
    proxy.set({ latencyMs: 50 })
    const socket = await client()
    const [far] = [...(await serversOf(1))]
    far!.end('bye')
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    assert.equal(bytes.toString(), 'bye')
    await once(socket, 'close')
  })

  async function serversOf(count: number): Promise<ReadonlySet<Socket>> {
    await until(() => servers.size === count)
    return servers
  }
})

async function until(check: () => boolean): Promise<void> {
  while (!check()) await new Promise((resolve) => setImmediate(resolve))
}
