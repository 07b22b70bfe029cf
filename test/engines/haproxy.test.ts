import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import path from 'node:path'
import { describe, it, test } from 'node:test'
import { haproxyConfig, haproxyDefaults, haproxyVersion } from '../../src/engines/haproxy/recipe.ts'
import { type BalancedApp, noHaproxy, withBalancer } from '../support/haproxy.ts'
import { askPage, noNginx, testPageCache } from '../support/nginx.ts'
import { ended, until } from '../support/process.ts'

const skip = noHaproxy
const settings = {
  ...haproxyDefaults,
  dir: '/data/balancer',
  listen: { host: '::1', port: 8080 },
  isEntry: true,
  servers: [{ name: 'web-1', address: '127.0.0.1:3001' }],
  threads: 2,
  clientsMax: 5_000,
}

test('recipe: what clients and servers may do', () => {
  const text = haproxyConfig(settings)
  for (const line of [
    '  bind [::1]:8080',
    '  http-request set-header X-Forwarded-For %[src]',
    '  option redispatch 1',
    '  http-request disable-l7-retry unless METH_GET',
    '  server web-1.unchecked 127.0.0.1:3001 backup maxconn 4000 maxqueue 1000',
    "  stats socket '/data/balancer/admin.sock' mode 600 level admin",
  ])
    assert.ok(text.split('\n').includes(line), line)
  assert.doesNotMatch(text, /observe layer7|accept-invalid|X-Accel-Redirect/)
  assert.doesNotMatch(text, /trusted/)
  const behind = haproxyConfig({ ...settings, isEntry: false, trustedProxies: ['10.0.0.0/8'] })
  assert.doesNotMatch(behind, /X-Forwarded/)
  assert.match(behind, /X-Accel-Redirect \/-\/refused\/503/)
  for (const wrong of [
    { dir: "/a'b" },
    { listen: { host: 'a\nb', port: 1 } },
    { servers: [{ name: 'a b', address: 'x:1' }] },
    { trustedProxies: ['10.0.0.0/8 0.0.0.0/0'] },
  ])
    assert.throws(() => haproxyConfig({ ...settings, ...wrong }), TypeError)
  assert.equal(haproxyVersion('HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/'), '2.6.12')
  assert.equal(haproxyVersion('HA-Proxy version 2.4.0 2021'), '2.4.0')
})

/** Sends a request over the agent's connections; the status, or the code of the error. */
function send(url: string, method: string, agent: Agent): Promise<string> {
  return new Promise((resolve) => {
    const sent = request(url, { method, agent }, (response) => {
      response.on('error', (error: NodeJS.ErrnoException) => resolve(error.code!))
      response.on('end', () => resolve(String(response.statusCode)))
      response.resume()
    })
    sent.on('error', (error: NodeJS.ErrnoException) => resolve(error.code!))
    sent.end()
  })
}

async function stop({ process }: BalancedApp): Promise<void> {
  process.kill('SIGKILL')
  await ended(process.pid!)
}

describe('HAProxy', { skip }, () => {
  it('a server that is killed: no GET fails, and no POST is executed twice', async () => {
    await withBalancer(3, async ({ server, apps, executed }) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 16 })
      for (const app of apps) await app.tell({ pauseMs: 3 })
      const answers: { method: string; id: string; status: string }[] = []
      let over = false
      let count = 0
      const client = async (method: string) => {
        while (!over) {
          const id = String(count++)
          answers.push({ method, id, status: await send(`${server.url}/?id=${id}`, method, agent) })
        }
      }
      const clients = Promise.all(['GET', 'GET', 'GET', 'POST', 'POST', 'POST'].map(client))
      for (const victim of apps.slice(0, 2)) {
        const before = answers.length
        await until(() => answers.length > before + 100, 'there is load')
        await stop(victim)
        const after = answers.length
        await until(() => answers.length > after + 300, 'it goes on')
      }
      over = true
      await clients
      agent.destroy()
      const failed = answers.filter(({ method, status }) => method === 'GET' && status !== '200')
      assert.deepEqual(failed, [])
      const ids = await executed()
      assert.equal(new Set(ids).size, ids.length, 'none twice')
      const done = new Set(ids)
      for (const { method, id, status } of answers) if (method === 'POST' && status === '201') assert.ok(done.has(id))
      const unknown = answers.filter(({ method, status }) => method === 'POST' && status !== '201')
      assert.ok(unknown.length <= 6, 'no more than those that were on their way')
      for (const { id, status } of unknown) if (status === '503') assert.ok(!done.has(id), 'that may be sent again')
    })
  })

  it('a write that no server has answered is not sent again; a read is', async () => {
    await withBalancer(2, async ({ server }) => {
      assert.equal((await askPage(server.url, '/dies')).status, 502)
      const post = await askPage(server.url, '/dies', { method: 'POST', body: 'x' })
      assert.equal(post.status, 502)
      assert.equal(JSON.parse(post.body).code, 'HTTP_OUTCOME_UNKNOWN')
      const requests = (await server.ask('show stat')).split('\n').filter((line) => /^app,web-/.test(line))
      const heads = (await server.ask('show stat')).split('\n')[0]!.split(',')
      const retried = requests.reduce((sum, line) => sum + Number(line.split(',')[heads.indexOf('wretr')]), 0)
      assert.ok(retried > 0 && retried <= 3, `${retried} retries, all of the GET`)
    })
  })

  it('a server that drains gets no new request, and comes back', async () => {
    await withBalancer(2, async ({ server, apps, untilStatus }) => {
      await apps[0]!.tell({ ready: false })
      await untilStatus('web-1', 'DOWN')
      for (let n = 0; n < 20; n += 1) assert.equal((await askPage(server.url, '/')).body, 'web-2')
      await apps[0]!.tell({ ready: true })
      await untilStatus('web-1', 'UP')
      await until(async () => (await askPage(server.url, '/')).body === 'web-1', 'it takes requests')
    })
  })

  it('tries all processes while each of them says that it is not ready, for then it is none of them', async () => {
    await withBalancer(2, async ({ server, apps, untilStatus }) => {
      for (const app of apps) await app.tell({ ready: false })
      for (const app of apps) await untilStatus(app.name, 'DOWN')
      const bodies = new Set<string>()
      await until(async () => {
        const { status, body } = await askPage(server.url, '/')
        assert.equal(status, 200)
        return bodies.add(body).size === 2
      }, 'both answer')
      assert.deepEqual(await server.balancing.look('web-1'), { requests: 0, isUp: false })
      await apps[1]!.tell({ ready: true })
      await untilStatus('web-2', 'UP')
      for (let n = 0; n < 10; n += 1) assert.equal((await askPage(server.url, '/')).body, 'web-2')
    })
  })

  it('without any server answers 503 in the form of a problem', async () => {
    await withBalancer(1, async ({ server, apps, untilStatus }) => {
      await stop(apps[0]!)
      await untilStatus('web-1', 'DOWN')
      const { status, body, headers } = await askPage(server.url, '/')
      assert.deepEqual(
        [status, headers['content-type'], headers['retry-after']],
        [503, 'application/problem+json', '1'],
      )
      assert.equal(JSON.parse(body).code, 'HTTP_OVERLOADED')
    })
  })

  it('no client can forge where a request comes from', async () => {
    const forged = {
      'x-forwarded-for': '6.6.6.6',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'evil',
      forwarded: 'for=6.6.6.6',
      'x-rung-page': 'x',
      host: 'shop.example',
    }
    const seen = async (url: string) => JSON.parse((await askPage(url, '/headers', { headers: forged })).body)
    await withBalancer(1, async ({ server }) => {
      const { forwarded, 'x-rung-page': page, ...headers } = await seen(server.url)
      assert.deepEqual([forwarded, page], [undefined, undefined])
      assert.equal(headers['x-forwarded-for'], '127.0.0.1')
      assert.equal(headers['x-forwarded-proto'], 'http')
      assert.equal(headers['x-forwarded-host'], 'shop.example')
    })
    await withBalancer(
      1,
      async ({ server }) =>
        assert.equal((await seen(server.url))['x-forwarded-for'], '6.6.6.6', 'the page cache set it'),
      { isEntry: false },
    )
    const trusting = async (proxy: string, expected: readonly string[]) =>
      withBalancer(
        1,
        async ({ server }) => {
          const headers = await seen(server.url)
          const forwarded = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host'].map((name) => headers[name])
          assert.deepEqual(forwarded, expected, `behind ${proxy}`)
        },
        { trustedProxies: [proxy] },
      )
    await trusting('127.0.0.0/8', ['6.6.6.6, 127.0.0.1', 'https', 'shop.example']) // the app leaves out whom it trusts
    await trusting('10.0.0.0/8', ['127.0.0.1', 'http', 'shop.example'])
  })

  it('no client can take a server out, and errors of the app do not', async () => {
    await withBalancer(1, async ({ server }) => {
      const { port } = new URL(server.url)
      const broken = async (bytes: string) => {
        const socket = connect(Number(port), '127.0.0.1')
        socket.on('error', () => {})
        await once(socket, 'connect')
        socket.write(bytes)
        await new Promise((resolve) => socket.write(' ', resolve))
        socket.resetAndDestroy()
      }
      for (let n = 0; n < 30; n += 1) {
        await broken('\x16\x03\x01\x02\x00')
        await broken('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf')
        await broken('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
        await broken('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n')
        await broken('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
        for (const target of ['/fails', '/missing', '/dies']) await askPage(server.url, target)
        assert.equal((await askPage(server.url, '/')).status, 200)
      }
    })
  })

  it('refuses what is read in two ways', async () => {
    await withBalancer(1, async ({ server, executed }) => {
      const answer = async (bytes: string) => {
        const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
        let text = ''
        socket.setEncoding('utf8').on('data', (chunk) => {
          text += chunk
        })
        socket.end(bytes)
        await once(socket, 'close')
        return text.match(/^HTTP\/1\.[01] \d+/gm) ?? []
      }
      const head = 'POST /?id=x HTTP/1.1\r\nHost: a\r\n'
      for (const two of [
        'Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde',
        'Content-Length: 4, 5\r\n\r\nabcde',
        'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
        'Content-Length : 4\r\n\r\nabcd',
      ])
        assert.deepEqual(await answer(head + two), ['HTTP/1.1 400'], two)
      const both =
        'Transfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n0\r\n\r\nGET /missing HTTP/1.1\r\nHost: a\r\n\r\n'
      assert.ok((await answer(head + both)).length <= 2)
      assert.ok((await executed()).length <= 1)
    })
  })

  it('uses the connections to the servers again', async () => {
    await withBalancer(1, async ({ server }) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      const peers = new Set<string>()
      for (let n = 0; n < 20; n += 1) {
        const sent = request(`${server.url}/peer`, { agent }).end()
        const [response] = await once(sent, 'response')
        peers.add(Buffer.concat(await response.toArray()).toString())
      }
      agent.destroy()
      assert.equal(peers.size, 1)
    })
  })

  it('holds back neither a stream nor an upload', async () => {
    await withBalancer(1, async ({ server, apps }) => {
      const [events] = await once(request(`${server.url}/events`).end(), 'response')
      assert.match(String((await once(events, 'data'))[0]), /first/)
      apps[0]!.process.send({})
      assert.match(String((await once(events, 'data'))[0]), /last/)
      const arrives = once(apps[0]!.process, 'message')
      const upload = request(`${server.url}/?upload&id=u`, { method: 'POST' })
      upload.write('first part')
      await arrives // although the rest is not sent yet
      upload.end('second')
      const [answer] = await once(upload, 'response')
      assert.equal(Buffer.concat(await answer.toArray()).toString(), '16')
    })
  })

  it('tells its state to its owner alone, and takes a server in and out', async () => {
    await withBalancer(2, async ({ server, dir, apps, untilStatus }) => {
      assert.equal((await stat(path.join(dir, 'haproxy/admin.sock'))).mode & 0o777, 0o600)
      assert.equal(await server.isHealthy(), true)
      assert.equal((await askPage(server.url, '/haproxy?stats')).headers['x-server'] !== undefined, true)
      await server.ask('set server app/web-1 state drain')
      for (let n = 0; n < 10; n += 1) assert.equal((await askPage(server.url, '/')).body, 'web-2')
      const added = await server.ask(`add server app/web-3 ${apps[0]!.address} check inter 500ms rise 1 fall 2`)
      assert.match(added, /New server registered/)
      await server.ask('enable health app/web-3; set server app/web-3 state ready')
      await untilStatus('web-3', 'UP')
      await until(async () => (await askPage(server.url, '/')).body === 'web-1', 'it takes requests')
    })
  })

  it('loses a server and gets it back while it runs', () =>
    withBalancer(2, async ({ server: { balancing, url }, apps, untilStatus }) => {
      const [, { name, address }] = apps as [BalancedApp, BalancedApp]
      await untilStatus(name, 'UP')
      await fetch(url)
      await balancing.drain(name)
      assert.deepEqual(await balancing.look(name), { requests: 0, isUp: false })
      await until(
        () =>
          balancing.forget(name).then(
            () => true,
            () => false,
          ),
        'it is forgotten',
      )
      assert.equal(await balancing.look(name), undefined)
      await Promise.all([balancing.forget(name), balancing.drain(name)]) // may be repeated
      await balancing.admit({ name, address: '127.0.0.1:1' })
      await untilStatus(name, 'DOWN')
      await balancing.admit({ name, address })
      await until(async () => (await balancing.look(name))?.isUp, 'it gets requests')
      const wrong = { name: 'web-3; shutdown', address }
      await assert.rejects(balancing.admit(wrong), TypeError)
    }))

  it('behind the page cache leaves the wording of refusals to it', { skip: noNginx }, async () => {
    await withBalancer(
      1,
      async ({ server, apps, untilStatus }) => {
        const address = server.url.replace('http://', '')
        const edge = await testPageCache([address])
        try {
          assert.equal((await askPage(edge.server.url, '/')).body, 'web-1')
          const id = { 'x-request-id': 'mine' }
          const post = await askPage(edge.server.url, '/dies', { method: 'POST', body: 'x', headers: id })
          const read = await askPage(edge.server.url, '/dies', { headers: id })
          const cookie = await askPage(edge.server.url, '/dies', { headers: { ...id, cookie: 'rung_session=x' } })
          await stop(apps[0]!)
          await untilStatus('web-1', 'DOWN')
          const away = await askPage(edge.server.url, '/', { method: 'POST', headers: id })
          const gone = await askPage(edge.server.url, '/x', { headers: id })
          const codes = [post, read, cookie, away, gone].map(({ status, body, headers }) => {
            assert.match(body, /"instance":"mine"/)
            assert.equal(headers['x-request-id'], 'mine')
            assert.equal(headers['x-accel-redirect'], undefined)
            return [status, JSON.parse(body).status, JSON.parse(body).code]
          })
          const unknown = [502, 502, 'HTTP_OUTCOME_UNKNOWN']
          const overloaded = [503, 503, 'HTTP_OVERLOADED']
          assert.deepEqual(codes, [unknown, overloaded, overloaded, overloaded, overloaded])
        } finally {
          await edge.stop()
        }
      },
      { isEntry: false },
    )
  })
})
