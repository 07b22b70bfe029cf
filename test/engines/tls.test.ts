import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, request as plainRequest, type Server } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { Agent, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import { edgeStatePath } from '../../src/engines/nginx/edge-terms.ts'
import type { Tls } from '../../src/engines/process/engine.ts'
import { readCertificate } from '../../src/fleet/certificate.ts'
import { makeCertificate } from '../support/certificates.ts'
import { noHaproxy, startOn } from '../support/haproxy.ts'
import { noNginx, testPageCache } from '../support/nginx.ts'
import { freePort } from '../support/ports.ts'
import { until } from '../support/process.ts'

interface Entry {
  url: string
  useCertificate(pem: string): Promise<void>
  stop(): Promise<void>
}

const entries: Record<string, { skip: string | false; start(address: string, dir: string, tls: Tls): Promise<Entry> }> =
  {
    nginx: {
      skip: noNginx,
      async start(address, _dir, tls) {
        const { server, stop } = await testPageCache([address], { tls })
        return { ...server, stop }
      },
    },
    HAProxy: {
      skip: noHaproxy,
      start: (address, dir, tls) => startOn(dir, [{ name: 'web-1', address }], { tls }),
    },
  }

for (const [name, { skip, start }] of Object.entries(entries)) {
  describe(`TLS at ${name}`, { skip }, () => {
    let dir: string
    let app: Server
    let seen: IncomingMessage[] = []
    let entry: Entry
    let pems: readonly [string, string]
    let plain: string
    before(async () => {
      dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
      const made = [await makeCertificate(dir, 'one.example'), await makeCertificate(dir, 'two.example')] as const
      pems = [(await readCertificate(made[0])).pem, (await readCertificate(made[1])).pem]
      app = createServer(async (incoming, response) => {
        if (incoming.url === '/readyz' || incoming.url === edgeStatePath) return void response.end('rung-edge 1\n')
        seen.push(incoming)
        if (incoming.url === '/stream') return void response.write('begun\n')
        let bytes = 0
        for await (const chunk of incoming) bytes += chunk.length
        response.end(`${incoming.method} ${incoming.url} ${bytes}`)
      }).listen(0, '127.0.0.1')
      await once(app, 'listening')
      const plainPort = await freePort()
      plain = `http://127.0.0.1:${plainPort}`
      const tls = { pem: pems[0], plainPort, acme: true, hstsDays: 2 }
      entry = await start(`127.0.0.1:${(app.address() as AddressInfo).port}`, dir, tls)
    })
    after(async () => {
      app?.close()
      app?.closeAllConnections() // a balancer waits for the stream
      await entry?.stop()
      await rm(dir, { recursive: true, force: true })
    })

    async function handshake(options: object = {}): Promise<{ name: string; protocol: string | null; alpn: unknown }> {
      const { hostname: host, port } = new URL(entry.url)
      const socket = connect({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'], ...options })
      try {
        await once(socket, 'secureConnect')
        const { subject } = socket.getPeerCertificate()
        return { name: String(subject.CN), protocol: socket.getProtocol(), alpn: socket.alpnProtocol }
      } finally {
        socket.destroy()
      }
    }
    function ask(url: string, options: { method?: string; agent?: Agent; body?: string } = {}) {
      const { body, ...rest } = { method: 'GET', ...options }
      const send = url.startsWith('https:') ? request : plainRequest
      const { promise, resolve, reject } = Promise.withResolvers<{
        status: number
        headers: IncomingMessage['headers']
        text: string
      }>()
      const sent = send(url, { ...rest, rejectUnauthorized: false } as never, async (answer) => {
        let text = ''
        for await (const chunk of answer) text += chunk
        resolve({ status: answer.statusCode!, headers: answer.headers, text })
      })
      sent.once('error', reject)
      sent.end(body)
      return promise
    }

    it('is 1.2 or newer, speaks HTTP/2, and tells the app', async () => {
      assert.deepEqual(await handshake(), { name: 'one.example', protocol: 'TLSv1.3', alpn: 'h2' })
      assert.equal((await handshake({ maxVersion: 'TLSv1.2' })).protocol, 'TLSv1.2')
      await assert.rejects(handshake({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }))
      seen = []
      const { status, headers, text } = await ask(`${entry.url}/a?b`)
      assert.deepEqual([status, text], [200, 'GET /a?b 0'])
      assert.equal(headers['strict-transport-security'], 'max-age=172800')
      assert.equal(seen[0]!.headers['x-forwarded-proto'], 'https')
      const session = connectHttp2(entry.url, { rejectUnauthorized: false })
      const stream = session.request({ ':method': 'POST', ':path': '/h2', 'x-forwarded-proto': 'http' })
      stream.end('x'.repeat(70_000))
      let answer = ''
      for await (const chunk of stream) answer += chunk
      session.close()
      assert.equal(answer, 'POST /h2 70000')
      const { headers: told } = seen[1]!
      assert.deepEqual([told.host, told['x-forwarded-proto']], [new URL(entry.url).host, 'https'])
    })

    it('leads clients of plain http to https, but for challenges of ACME', async () => {
      const port = new URL(entry.url).port
      for (const [method, target] of [
        ['GET', '/a/b?c=%20d'],
        ['POST', '/'],
        ['GET', '//.well-known/acme-challenge/abc'],
        ['GET', '/w/..%2f.well-known/acme-challenge/abc'],
      ] as const) {
        const { status, headers } = await ask(plain + target, { method })
        assert.deepEqual([status, headers.location], [308, `https://127.0.0.1:${port}${target}`])
      }
      assert.equal((await ask(`${plain}/.well-known/acme-challenge/abc`)).text, 'GET /.well-known/acme-challenge/abc 0')
      assert.equal(seen.at(-1)!.headers['x-forwarded-proto'], 'http')
      const wrong = ask(entry.url.replace('https', 'http')).then(({ status }) => status)
      if (name === 'nginx') assert.equal(await wrong, 400)
      else await assert.rejects(wrong, { code: 'ECONNRESET' })
    })

    // nginx/nginx#437: a reload resets requests on connections that were idle.
    it('gets another certificate under load, and no connection ends', async () => {
      const session = connectHttp2(entry.url, { rejectUnauthorized: false })
      const open = session.request({ ':path': '/stream' })
      await once(open, 'data')
      let ended = false
      for (const one of [session, open])
        one.once('close', () => {
          ended = true
        })
      const sockets = new Set<TLSSocket>()
      const agent = new Agent({ keepAlive: true, maxSockets: 8, rejectUnauthorized: false })
      agent.on('free', (socket: TLSSocket) => sockets.add(socket))
      let going = true
      let answered = 0
      const clients = Array.from({ length: 8 }, async (_, index) => {
        while (going) {
          const { status } = await ask(`${entry.url}/load/${index}`, { method: 'POST', agent, body: 'x' })
          assert.equal(status, 200)
          answered += 1
        }
      })
      for (let round = 1; round <= 20; round += 1) {
        const target = answered + 20
        await entry.useCertificate(pems[(round % 2) as 0 | 1])
        assert.equal((await handshake()).name, round % 2 === 1 ? 'two.example' : 'one.example')
        await until(() => answered >= target, 'the load goes on')
      }
      going = false
      await Promise.all(clients)
      assert.ok(answered >= 400)
      assert.equal(sockets.size, 8, 'no client had to connect again')
      assert.equal(ended, false)
      agent.destroy()
      session.destroy()
    })

    it('keeps its certificate when it is given none that can be used', async () => {
      const { name: present } = await handshake()
      const [one, two] = pems
      const broken = [`${one.split('-----BEGIN PRIVATE')[0]}`, 'nothing']
      // nginx takes them by themselves; the fleet compares them before.
      if (name === 'HAProxy')
        broken.push(one.replace(/-----BEGIN PRIVATE[\s\S]*/, two.slice(two.indexOf('-----BEGIN PRIVATE'))))
      for (const pem of broken) await assert.rejects(entry.useCertificate(pem), { code: 'CERTIFICATE_INVALID' })
      for (let tries = 0; tries < 8; tries += 1) assert.equal((await handshake()).name, present)
      await entry.useCertificate(two)
      assert.equal((await handshake()).name, 'two.example')
    })
  })
}
