import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { isRungError } from '../../src/kernel/errors.ts'

/** A port that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Starts something on a free port, and again on another one if another test was faster. */
export async function onFreePort(start: (port: number) => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await start(await freePort())
    } catch (error) {
      if (attempt === 5 || !isRungError(error, 'PORT_IN_USE')) throw error
    }
  }
}

export interface BlackHole {
  port: number
  close(): void
}

/** Accepts every connection and never answers. */
export async function blackHole(): Promise<BlackHole> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).resume()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
