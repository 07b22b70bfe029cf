import { once } from 'node:events'
import { createServer, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Random } from '../kernel/random.ts'

/** A server that gives each request to one of several others. */
interface Shuffle {
  /** `http://127.0.0.1:49152` */
  readonly url: string
  stop(): Promise<void>
}

/** Of each round of requests, every node gets one; in which order, chance decides. So of two requests in a row few meet the same node. */
export async function shuffleRequests(nodes: readonly string[], random: Random): Promise<Shuffle> {
  let round: string[] = []
  function next(): string {
    if (round.length === 0) round = [...nodes]
    return round.splice(Math.floor(random() * round.length), 1)[0]!
  }
  const server = createServer((request, response) => {
    const { connection: _, ...headers } = request.headers
    const upstream = send(new URL(next()), { method: request.method, path: request.url, headers, agent: false })
    upstream.once('response', (answer) => {
      const { connection: _, 'keep-alive': __, ...answered } = answer.headers
      response.writeHead(answer.statusCode!, answer.statusMessage, answered)
      answer.pipe(response)
      answer.once('error', () => response.destroy())
    })
    upstream.once('error', () => response.destroy())
    response.once('close', () => upstream.destroy())
    request.pipe(upstream)
  })
  server.requestTimeout = 0 // the nodes have their own
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
