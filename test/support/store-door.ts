import { once } from 'node:events'
import http from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { TestS3 } from './s3.ts'

/** What becomes of a request: it passes, it does not arrive, its answer gets lost, or it is refused. */
export type Fate = 'pass' | 'lost' | 'answer lost' | 'refused'

export interface StoreDoor {
  /** For `s3UrlOf`. */
  readonly origin: string
  /** `PUT /bucket/key`, in the order in which they came. */
  readonly seen: readonly string[]
  decide: (request: string) => Fate
  close(): void
}

/** A door to an S3 store, through which requests pass or not. Signatures name the door, and hold behind it. */
export async function openStoreDoor({ origin }: Pick<TestS3, 'origin'>): Promise<StoreDoor> {
  const { hostname, port } = new URL(origin)
  const seen: string[] = []
  const server = http.createServer(async (request, response) => {
    const line = `${request.method} ${decodeURIComponent(request.url!)}`
    seen.push(line)
    const fate = door.decide(line)
    const body = await buffer(request).catch(() => undefined)
    if (fate === 'lost' || body === undefined) return void request.socket.destroy()
    if (fate === 'refused') return void response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>')
    const { method, url: path, headers } = request
    const passed = http.request({ hostname, port, method, path, headers })
    passed.on('error', () => request.socket.destroy())
    passed.on('response', (answer) => {
      if (fate === 'answer lost') {
        answer.resume().on('end', () => request.socket.destroy())
        return
      }
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    passed.end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const at = server.address() as { port: number }
  const door: StoreDoor = {
    origin: `http://127.0.0.1:${at.port}`,
    seen,
    decide: () => 'pass',
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
  return door
}
