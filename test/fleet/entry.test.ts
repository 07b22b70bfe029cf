import assert from 'node:assert/strict'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request as plainRequest } from 'node:http'
import { request } from 'node:https'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { connect } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { makeCertificate } from '../support/certificates.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { freePort } from '../support/ports.ts'
import { type Facts, launchRung, openScratch, type Scratch, sameExit, until } from '../support/process.ts'

const club = fileURLToPath(new URL('../support/apps/club/app.ts', import.meta.url))

/** A client that keeps cookies, and asks for no certificate that somebody else has signed. */
function visitor(base: string) {
  const cookies = new Map<string, string>()
  return async (target: string, method = 'GET') => {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ')
    const send = base.startsWith('https:') ? request : plainRequest
    const options = { method, rejectUnauthorized: false, agent: false, headers: cookie === '' ? {} : { cookie } }
    send(new URL(target, base), options as never, resolve)
      .once('error', reject)
      .end()
    const answer = await promise
    for (const line of answer.headers['set-cookie'] ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
      cookies.set(name!, value!)
    }
    let text = ''
    for await (const chunk of answer) text += chunk
    return { status: answer.statusCode!, headers: answer.headers, text }
  }
}

describe('the entry of a fleet with TLS, and its keys', { skip: noHaproxy }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let facts: Facts
  let files: { cert: string; key: string }
  let plain: string
  before(async () => {
    scratch = await openScratch()
    files = await makeCertificate(scratch.dir, 'one.example')
    const plainPort = await freePort()
    plain = `http://127.0.0.1:${plainPort}`
    const env = {
      ...{ RUNG_WEB: '2', RUNG_WORKER: '0', RUNG_BALANCER: 'on' },
      ...{ RUNG_TLS_CERT: files.cert, RUNG_TLS_KEY: 'one.example.key', RUNG_PLAIN_PORT: String(plainPort) },
      RUNG_ACME_DIR: 'acme',
    }
    facts = await scratch.launch({ up: '1k', app: club, env }).started
  })
  after(() => scratch?.end())

  async function rung(code: number, ...command: string[]): Promise<Record<string, never>> {
    const one = launchRung({ command: [...command, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
    sameExit(await one.exited, code)
    return JSON.parse(one.stdout())
  }
  async function nameSeen(): Promise<string> {
    const { hostname: host, port } = new URL(facts.url)
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false }, () =>
      resolve(String(socket.getPeerCertificate().subject.CN)),
    )
    socket.once('error', reject)
    return promise.finally(() => socket.destroy())
  }

  it('is https, and plain http leads there, but for challenges of an ACME client', async () => {
    assert.match(facts.url, /^https:/)
    assert.equal((await visitor(facts.url)('/me')).status, 200)
    const ask = visitor(plain)
    const { status, headers } = await ask('/me?a=b')
    assert.deepEqual([status, headers.location], [308, `${facts.url}/me?a=b`])
    const folder = path.join(scratch.dir, 'acme/.well-known/acme-challenge')
    await mkdir(folder, { recursive: true })
    await writeFile(path.join(folder, 'to-ken_1'), 'to-ken_1.thumbprint')
    await writeFile(path.join(scratch.dir, 'acme/secret'), 'x')
    assert.equal((await ask('/.well-known/acme-challenge/to-ken_1')).text, 'to-ken_1.thumbprint')
    for (const none of ['none', '..%2F..%2Fsecret', 'to-ken_1%2F', '%00']) {
      assert.equal((await ask(`/.well-known/acme-challenge/${none}`)).status, 404, none)
    }
  })

  it('takes a renewed certificate, keeps its own where the files are wrong, and says so', async () => {
    assert.equal(await nameSeen(), 'one.example')
    const shown = await rung(0, 'certs')
    assert.deepEqual(shown.names, ['one.example', 'localhost', '127.0.0.1'])
    const other = await makeCertificate(scratch.dir, 'two.example')
    await copyFile(other.cert, files.cert)
    const { error } = (await rung(1, 'certs', 'reload')) as { error?: { code: string; message: string } }
    assert.equal(error!.code, 'CERTIFICATE_INVALID')
    assert.match(error!.message, /one\.example\.key is not the key of the certificate in /)
    assert.equal(await nameSeen(), 'one.example')
    const { certificate } = (await rung(0, 'ps', '--brief')) as { certificate?: { problem: string } }
    assert.equal(certificate!.problem, error!.message)
    await copyFile(other.key, files.key)
    await rung(0, 'certs', 'reload')
    assert.equal(await nameSeen(), 'two.example')
    assert.deepEqual((await rung(0, 'certs')).names, ['two.example', 'localhost', '127.0.0.1'])
    await rung(0, 'kill', 'balancer', '--yes')
    const again = await until(() => nameSeen().catch(() => undefined), 'it runs again')
    assert.equal(again, 'two.example')
  })

  it('gets another root of all keys, and nobody is signed out', async () => {
    const ask = visitor(facts.url)
    await ask('/sign-in', 'POST')
    const url: string = JSON.parse((await ask('/picture', 'PUT')).text).url
    const pids = new Set<number>()
    let going = true
    let asked = 0
    const client = (async () => {
      while (going) {
        const { status, text } = await ask('/me')
        assert.equal(status, 200)
        const { me, pid } = JSON.parse(text)
        assert.equal(me, 'anna')
        pids.add(pid)
        asked += 1
      }
    })()
    const before = pids.size
    await Promise.race([rung(0, 'secret', 'rotate', '--keep', '1h'), client])
    going = false
    await client
    assert.equal(before, 0)
    assert.ok(pids.size >= 4, `${pids.size} processes in ${asked} answers: each was restarted twice`)
    assert.equal((await ask(url)).text, 'a picture', 'what the former root has signed')
    const fresh: string = JSON.parse((await ask('/picture', 'PUT')).text).url
    assert.notEqual(
      new URL(fresh, plain).searchParams.get('signature'),
      new URL(url, plain).searchParams.get('signature'),
    )
    assert.equal((await ask(fresh)).text, 'a picture')
  })
})
