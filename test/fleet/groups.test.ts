import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { copyProject } from '../support/deploys.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { PositionJar } from '../support/position-jar.ts'
import { type Facts, type Launched, openScratch, sendTo, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const guild = fileURLToPath(new URL('../support/apps/guild/app.ts', import.meta.url))
const nodes = { folk: { modules: ['people'], web: 1 }, paper: { modules: ['press'], worker: 1 } }

describe('groups of modules on their own nodes', { skip: noRedis || noHaproxy || noPooler }, () => {
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let fleet: Launched
  let facts: Facts
  let app: string
  before(async () => {
    scratch = await openScratch()
    app = await copyProject(path.join(scratch.dir, 'guild'), guild)
    const env = { RUNG_NODES: JSON.stringify(nodes), RUNG_EDGE: 'off', RUNG_WEB: '1', RUNG_REPLICAS: '1' }
    fleet = scratch.launch({ up: '100k', app, env })
    facts = await fleet.started
  })
  after(() => scratch?.end())

  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`${facts.url}${path}`, { signal: AbortSignal.timeout(20_000), ...init })
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asks for
  const json = async (path: string, init?: RequestInit): Promise<any> => (await ask(path, init)).json()
  const rename = (id: number, name: string, jar = new PositionJar()) =>
    ask(`/desk/${id}/${name}`, { method: 'PUT', headers: jar.header })
  async function pidOf(name: string): Promise<number> {
    const view = await rung(['ps'])
    return view.parts.find((part: { name: string }) => part.name === name).pid
  }
  async function rung(command: string[]) {
    const done = scratch.launch({ command: [...command, '--json'] })
    const exit = await done.exited
    assert.equal(exit.code, 0, done.stdout() + done.stderr())
    return JSON.parse(done.stdout())
  }

  it('a request goes to the group that has its route, and a call to that of its module', async () => {
    const [folk, core] = [await pidOf('folk-web-1'), await pidOf('web-1')]
    assert.deepEqual(await json('/desk/1/Ann', { method: 'PUT' }), { version: 1 })
    assert.deepEqual(await json('/people/1'), { name: 'Ann', version: 1, by: folk })
    assert.deepEqual(await json('/desk/1'), { person: { name: 'Ann', version: 1, by: folk }, at: core })
    assert.deepEqual(await json('/people/desk'), { at: core }, 'a word is more specific than a parameter')
    const refused = await ask('/people/1', { method: 'POST' })
    assert.deepEqual([refused.status, refused.headers.get('allow')], [405, 'GET, HEAD'])
    assert.equal((await ask('/people/1/none')).status, 404)
    const paper = String(await pidOf('paper-worker-1'))
    await until(async () => ((await json('/press/1')) as unknown[]).length === 1, 'the event is handled')
    assert.deepEqual(
      await json('/press/1'),
      [{ version: 1, by: paper }],
      'the routes of a group without a web process stay',
    )
  })

  it('a session sees through a call what it has written through one, kept or not', async () => {
    const jar = new PositionJar()
    for (let n = 1; n <= 200; n += 1) {
      const written = await rename(2, `name-${n}`, jar)
      jar.note(written.headers)
      assert.deepEqual(await written.json(), { version: n })
      for (const path of ['/desk/2', '/kept/2', '/cached/2']) {
        const answer = await ask(path, { headers: jar.header })
        jar.note(answer.headers)
        assert.equal(answer.status, 200, await answer.clone().text())
        const { person } = (await answer.json()) as { person: { name: string; version: number } }
        assert.deepEqual([path, person.name, person.version], [path, `name-${n}`, n])
      }
      const own = await ask('/people/2', { headers: jar.header })
      assert.equal(((await own.json()) as { version: number }).version, n)
    }
  })

  it('an answer that is kept of a call is kept, and ends with its tag for everybody', async () => {
    await rename(3, 'Bea')
    const seen = async () => ((await json('/cached/3')) as { person: { name: string } }).person.name
    await until(async () => (await seen()) === 'Bea', 'it is seen')
    const before = await metric('folk-web-1', /^http_requests_total\{.*route="\/-\/calls\/people\.kept".*\} (\d+)/m)
    for (let n = 0; n < 20; n += 1) assert.equal(await seen(), 'Bea')
    const after = await metric('folk-web-1', /^http_requests_total\{.*route="\/-\/calls\/people\.kept".*\} (\d+)/m)
    assert.equal(after, before, 'no call was made')
    await rename(3, 'Cleo')
    await until(async () => (await seen()) === 'Cleo', 'others see the new name')
  })

  async function metric(part: string, pattern: RegExp): Promise<number> {
    const { address } = (await rung(['ps'])).parts.find(({ name }: { name: string }) => name === part)
    const text = await (await fetch(`http://${address}/metrics`)).text()
    return Number(pattern.exec(text)?.[1])
  }

  it('a stranger calls nothing, neither at the entry nor at a process', async () => {
    const call = {
      method: 'POST',
      headers: { 'content-type': 'application/vnd.rung.call+json' },
      body: '{"input":{"id":1}}',
    }
    assert.equal((await ask('/-/calls/people.find', call)).status, 404)
    assert.equal((await ask('/-/calls/people.find/', call)).status, 404)
    const { address } = facts.parts!.find(({ name }) => name === 'folk-web-1')!
    const at = (extra: Record<string, string>) =>
      fetch(`http://${address}/-/calls/people.find`, { ...call, headers: { ...call.headers, ...extra } })
    assert.equal((await at({})).status, 401)
    assert.equal((await at({ 'rung-call': `${Date.now()}.${'a'.repeat(43)}` })).status, 401)
  })

  let noted = 0

  /** Asks what needs no group, and what needs one, while `body` runs. @returns how the requests ended */
  async function during(body: () => Promise<unknown>): Promise<{ own: string[]; group: string[] }> {
    let over = false
    const [own, group] = [new Set<string>(), new Set<string>()]
    const loop = async (seen: Set<string>, once: () => Promise<Response>) => {
      while (!over) {
        const answer = await once().catch((error: Error) => ({
          status: String(error.cause ?? error),
          arrayBuffer: async () => {},
        }))
        await answer.arrayBuffer()
        seen.add(String(answer.status))
      }
    }
    const note = () => {
      noted += 1
      return ask(`/notes/${noted}`, { method: 'POST' })
    }
    const loops = [
      loop(own, note),
      loop(own, () => ask('/people/desk')),
      loop(group, () => ask('/people/1')),
      loop(group, () => ask('/desk/1')),
    ]
    try {
      await body()
    } finally {
      over = true
      await Promise.all(loops)
    }
    return { own: [...own].sort(), group: [...group].sort() }
  }

  it('is restarted, scaled and scaled back without a failed request', async () => {
    const { own, group } = await during(async () => {
      await rung(['restart', 'folk-web'])
      await rung(['scale', 'folk-web=2'])
      await rung(['restart', 'folk-web-1'])
      await rung(['scale', 'folk-web=1'])
    })
    assert.deepEqual([own, group], [['200', '201'], ['200']])
    assert.equal(await pidOf('folk-web-2').catch(() => undefined), undefined)
  })

  it('is autoscaled until it has a number or joins the others', async () => {
    const looked = async () => (await rung(['ps'])).scaling?.['folk-web']?.reason as string | undefined
    const { now, scaling } = await rung(['scale', 'folk-web=2..3'])
    assert.deepEqual([now['folk-web'], scaling], [2, { 'folk-web': { least: 2, most: 3 } }])
    await until(
      async () => /CPU|event loop|requests|are the least/.test((await looked()) ?? ''),
      'its figures are read',
    )
    const refused = scratch.launch({ command: ['scale', 'paper-worker=1..2', '--json'] })
    assert.equal((await refused.exited).code, 1, 'the jobs of a group cannot be told from others')
    await rung(['scale', 'folk-web=1'])
    await until(async () => (await looked()) === undefined, 'it has ended')
  })

  it('joins the others and leaves them again without a failed request, and the session of a client goes on', async () => {
    const jar = new PositionJar()
    let version = ((await json('/people/1')) as { version: number }).version
    let over = false
    const session = (async () => {
      while (!over) {
        const written = await rename(1, `at-${version}`, jar)
        assert.equal(written.status, 200, await written.clone().text())
        jar.note(written.headers)
        version += 1
        assert.deepEqual(await written.json(), { version })
        const seen = await ask('/desk/1', { headers: jar.header })
        jar.note(seen.headers)
        assert.equal(((await seen.json()) as { person: { version: number } }).person.version, version)
      }
    })()
    const { own, group } = await during(async () => {
      const joined = await rung(['extract', 'people', '--undo'])
      assert.deepEqual([joined.outcome, joined.removed, Object.keys(joined.now)], ['done', ['folk-web-1'], ['paper']])
      const core = await pidOf('web-1')
      assert.deepEqual(await json('/people/1').then(({ by }) => by), core)
      const left = await rung(['extract', 'people', '--name', 'folk', '--worker', '0'])
      assert.deepEqual([left.added, Object.keys(left.now)], [['folk-web-1'], ['paper', 'folk']])
      assert.equal(await json('/people/1').then(({ by }) => by), await pidOf('folk-web-1'))
    }).finally(() => {
      over = true
      return session
    })
    assert.deepEqual([own, group], [['200', '201'], ['200']])
  })

  it('has pools of its own', async () => {
    const text = await readFile(path.join(scratch.dataDir, 'fleet/pooler/pgbouncer.ini'), 'utf8')
    const sizeOf = (name: string) => Number(new RegExp(`^${name} = .*pool_size='(\\d+)'`, 'm').exec(text)?.[1])
    assert.deepEqual(['postgres.read', 'postgres.read.folk', 'postgres-2.write.folk'].map(sizeOf), [20, 5, 5])
  })

  it('extract judges first, and refuses what cannot be', async () => {
    const plan = await rung(['extract', 'desk', '--dry-run'])
    assert.deepEqual(plan.nodes.desk, { modules: ['desk'], web: 1, worker: 0 })
    assert.deepEqual([plan.outcome, plan.judged[0].isWorth], ['planned', false])
    for (const [args, message] of [
      [['extract', 'dsk'], /no module "dsk"\. Write desk\./],
      [['extract', 'people'], /The group "folk" has people already/],
      [['extract', 'desk', '--undo'], /"desk" has no nodes of its own/],
      [['extract', 'desk', '--web', 'two'], /With these groups nodes must/],
    ] as const) {
      const failed = scratch.launch({ command: [...args, '--json'] })
      assert.equal((await failed.exited).code, 1)
      assert.match(JSON.parse(failed.stdout()).error.message, message)
    }
  })

  it('gets new code without a failed request, and code that the other build could not call is refused', async () => {
    const text = await readFile(app, 'utf8')
    const deploy = async (changed: string, code: number) => {
      assert.notEqual(changed, text)
      await writeFile(app, changed)
      const done = scratch.launch({ command: ['deploy', '--watch', '0s', '--json'], cwd: path.dirname(app) })
      assert.equal((await done.exited).code, code, done.stdout() + done.stderr())
      return JSON.parse(done.stdout())
    }
    const narrower = await deploy(
      text.replace('by: Type.Integer() })', 'by: Type.Integer(), age: Type.Integer() })'),
      1,
    )
    assert.equal(narrower.error.code, 'CALL_INCOMPATIBLE')
    assert.match(narrower.error.message, /^people\.find: its output/)
    const { own, group } = await during(async () => {
      const wider = await deploy(
        text
          .replace('by: Type.Integer() })', 'by: Type.Integer(), age: Type.Optional(Type.Integer()) })')
          .replace(
            "http.get('/people/:id'",
            "http.get('/people/:id/age', () => ({ age: 40 }))\n    http.get('/people/:id'",
          ),
        0,
      )
      assert.equal(wider.outcome, 'done')
    })
    assert.deepEqual([own, group], [['200', '201'], ['200']])
    assert.deepEqual(await json('/people/1/age'), { age: 40 }, 'the balancer knows the new route')
  })

  it('that is killed is missed by those that need it, and comes back', async () => {
    const { own } = await during(async () => {
      for (let n = 0; n < 3; n += 1) {
        const pid = await pidOf('folk-web-1')
        sendTo(pid, 'SIGKILL')
        await until(async () => (await pidOf('folk-web-1')) !== pid, 'it was started again')
        await until(async () => (await ask('/desk/1')).status === 200, 'it is called again')
      }
    })
    assert.deepEqual(own, ['200', '201'])
  })

  it('that hangs holds up nothing that does not need it', async () => {
    const pid = await pidOf('folk-web-1')
    const { own } = await during(async () => {
      sendTo(pid, 'SIGSTOP')
      try {
        const late = await ask('/desk/1')
        assert.ok([502, 503, 504].includes(late.status), String(late.status))
      } finally {
        sendTo(pid, 'SIGCONT')
      }
      await until(async () => (await ask('/desk/1')).status === 200, 'it is called again')
    })
    assert.deepEqual(own, ['200', '201'])
  })
})
