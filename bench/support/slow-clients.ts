import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

/**
 * A process of clients that are slow on purpose, from many addresses. Its parent sends how many there shall be, and is told when they are
 * connected. Who is thrown out comes again.
 */
const [url, slowReadPath] = process.argv.slice(2)
const { hostname, port } = new URL(url!)
/** As a botnet would, so that limits for one address do not help. */
const addresses = 100
const dripEveryMs = 3_000
const comesAgainMs = 100

const crlf = '\r\n'
const head = (...lines: string[]) => [...lines, '', ''].join(crlf)
/** What each kind writes at first, and what it drips. */
const kinds = [
  { first: `GET /api/tags HTTP/1.1${crlf}host: localhost${crlf}`, drip: `x: y${crlf}` },
  {
    first: `${head('POST /api/users/login HTTP/1.1', 'host: localhost', 'content-type: application/json', 'content-length: 1000000')}{`,
    drip: ' ',
  },
  // Reads nothing, so its answers fill all buffers on the way.
  { first: head(`GET ${slowReadPath} HTTP/1.1`, 'host: localhost').repeat(5), drip: '' },
]

const sockets = new Set<Socket>()
let thrownOut = 0
let over = new AbortController()

async function one(number: number, { signal }: AbortController): Promise<void> {
  const { first, drip } = kinds[number % kinds.length]!
  while (!signal.aborted) {
    const socket = connect({
      host: hostname,
      port: Number(port),
      localAddress: `127.1.${number % addresses}.1`,
    })
    if (drip === '') socket.pause()
    else socket.resume()
    socket.once('connect', () => sockets.add(socket.setNoDelay()) && socket.write(first))
    const dripping = drip === '' ? undefined : setInterval(() => socket.writable && socket.write(drip), dripEveryMs)
    await new Promise<void>((resolve) => socket.on('error', () => {}).once('close', () => resolve()))
    clearInterval(dripping)
    sockets.delete(socket)
    if (!signal.aborted) thrownOut += 1
    await wait(comesAgainMs)
  }
}

process.on('message', async (count: number) => {
  over.abort()
  for (const socket of sockets) socket.destroy()
  const told = { thrownOut }
  thrownOut = 0
  over = new AbortController()
  for (let number = 0; number < count; number += 1) {
    void one(number, over)
    if (number % 50 === 49) await wait(10)
  }
  while (count > 0 ? sockets.size < 0.98 * count : sockets.size > 0) await wait(20)
  process.send!(told)
})
process.on('disconnect', () => process.exit())
