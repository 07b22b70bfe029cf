import { connect, type Socket } from 'node:net'

/** Connections that have been answered once and stay open, until the parent goes. */

const atOnce = 200

process.once('message', ({ url, count }: { url: string; count: number }) => {
  void open(new URL(url), count).then((sockets) => {
    process.send!({ open: sockets.filter((socket) => !socket.destroyed).length })
  })
})
process.once('disconnect', () => process.exit())

async function open({ hostname, port, host }: URL, count: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => socket.write(`GET /api/tags HTTP/1.1\r\nhost: ${host}\r\n\r\n`))
      socket.once('data', () => resolve())
      socket.on('data', () => {})
      sockets.push(socket)
    })
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (sockets.length < count) await one()
    }),
  )
  return sockets
}
