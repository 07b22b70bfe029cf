import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'

/** A process behind a balancer. It appends the id of each POST that it executes to a file, and obeys messages of its parent. */
const [name, file] = process.argv.slice(2)
let isReady = true
let pauseMs = 0
const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url!, 'http://x')
  response.setHeader('x-server', name!)
  if (pathname === '/readyz') return void response.writeHead(isReady ? 200 : 503).end()
  if (pathname === '/headers') return void response.end(JSON.stringify(request.headers))
  if (pathname === '/peer') return void response.end(`${request.socket.remotePort}`)
  if (pathname === '/missing') return void response.writeHead(404).end()
  if (pathname === '/fails') return void response.writeHead(500).end()
  if (pathname === '/dies') return request.socket.destroy() // the request was read, and is not answered
  if (pathname === '/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: first\n\n')
    process.once('message', () => response.end('data: last\n\n'))
    return
  }
  if (request.method !== 'POST') return void setTimeout(() => response.end(name), pauseMs)
  let bytes = 0
  request.on('data', (chunk) => {
    if (bytes === 0 && searchParams.has('upload')) process.send!({ arrives: true })
    bytes += chunk.length
  })
  request.on('end', () => {
    appendFileSync(file!, `${searchParams.get('id')}\n`)
    setTimeout(() => response.writeHead(201).end(String(bytes)), pauseMs)
  })
})
server.keepAliveTimeout = 65_000
process.on('message', (message: { ready?: boolean; pauseMs?: number }) => {
  isReady = message.ready ?? isReady
  pauseMs = message.pauseMs ?? pauseMs
  process.send!({ done: true })
})
process.on('disconnect', () => process.exit())
server.listen(0, '127.0.0.1', () => process.send!({ port: (server.address() as { port: number }).port }))
