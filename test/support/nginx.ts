import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { edgeStatePath } from '../../src/engines/nginx/edge-terms.ts'
import {
  installedNginx,
  type PageCacheOptions,
  type PageCacheServer,
  startPageCache,
} from '../../src/engines/nginx/server.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { freePort } from './ports.ts'
import { until } from './process.ts'

/** For `{ skip: noNginx }`: the reason, where none with Lua is installed. */
export const noNginx: string | false = installedNginx()?.modules
  ? false
  : 'nginx with Lua is not installed: rung engines install nginx'

export interface TestPageCache {
  readonly server: PageCacheServer
  readonly dir: string
  /** And its folder is gone. */
  stop(): Promise<void>
}

/** A real nginx on free ports, of this process: it takes some 100 ms. */
export async function testPageCache(
  upstreams: readonly string[],
  options: Partial<PageCacheOptions> = {},
): Promise<TestPageCache> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-nginx-'))
  for (let attempt = 0; ; attempt += 1) {
    try {
      const listen = { host: '127.0.0.1', port: await freePort() }
      const server = await startPageCache({ dir, listen, adminPort: await freePort(), upstreams, ...options })
      return {
        server,
        dir,
        async stop() {
          await server.stop()
          await rm(dir, { recursive: true, force: true })
        },
      }
    } catch (error) {
      if (attempt < 5 && isRungError(error, 'PORT_IN_USE')) continue // another test was faster
      await rm(dir, { recursive: true, force: true })
      throw error
    }
  }
}

export interface TestUpstream {
  readonly address: string
  readonly seen: IncomingMessage[]
  /** From now on it takes connections and answers nothing, not even whether it lives. */
  hang(): void
  wake(): void
  /** From now on it does not answer checks. Resolves when the edge has noticed. */
  isBusy(): Promise<void>
  close(): Promise<void>
}

/** An app behind the page cache. `terms`: what it tells the edge of its routes, a line each. */
export async function testUpstream(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  terms: readonly string[] = [],
): Promise<TestUpstream> {
  const seen: IncomingMessage[] = []
  let hangs = false
  /** Checks since it does not answer them. */
  let unanswered: number | undefined
  const server: Server = createServer({ maxHeaderSize: 64 * 1024 }, (request, response) => {
    if (request.url === edgeStatePath) {
      if (unanswered !== undefined) unanswered += 1
      else if (!hangs) response.end(['rung-edge 1', ...terms, ''].join('\n')) // the edge asks all the time
      return
    }
    seen.push(request)
    if (!hangs) answer(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    hang() {
      hangs = true
    },
    wake() {
      hangs = false
    },
    async isBusy() {
      unanswered = 0
      await until(() => unanswered === 3, 'the edge has asked in vain')
    },
    async close() {
      if (!server.listening) return
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

export interface Page {
  status: number
  body: string
  headers: Record<string, string | string[] | undefined>
  /** `X-Cache` */
  cache: string
}

export interface Ask {
  method?: string
  headers?: Record<string, string>
  body?: string | Buffer
}

/** Without the manners of `fetch`: exactly these headers. */
export function askPage(base: string, target: string, { method = 'GET', headers = {}, body }: Ask = {}): Promise<Page> {
  return new Promise((resolve, reject) => {
    const sent = request(`${base}${target}`, { method, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          status: response.statusCode!,
          body: text,
          headers: response.headers,
          cache: String(response.headers['x-cache'] ?? ''),
        }),
      )
    })
    sent.on('error', reject)
    sent.end(body)
  })
}
