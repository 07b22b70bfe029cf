import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { environment, install, pack, run, works } from '../support/packed.ts'
import { endAllOn, processesOn, until } from '../support/process.ts'

/** What a user gets from npm, on each Node that Rung promises to run on. */
const majors = [22, 24]

let dir = ''
let tarball = ''
let version = ''
let unreachable = ''

describe('the package', () => {
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    const asked = await run('npm', ['view', 'node@22', 'version'], dir)
    if (asked.code === 0) ({ tarball, version } = await pack(dir))
    else unreachable = `the npm registry cannot be reached: ${asked.stderr.trim().split('\n').at(0)}`
  })
  after(async () => {
    await endAllOn(dir)
    await rm(dir, { recursive: true, force: true, maxRetries: 10 })
  })

  it('holds what is needed and nothing else', async (t) => {
    if (unreachable) return t.skip(unreachable)
    const { stdout } = await works('tar', ['-tzf', tarball], dir)
    const files = stdout.trim().split('\n')
    for (const needed of [
      'package.json',
      'dist/cli/bin.js',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/testing.js',
      'dist/console/page/console.js',
      'dist/kernel/tokens.css',
    ])
      assert.ok(files.includes(`package/${needed}`), needed)
    const allowed =
      /^package\/(package\.json|(README|LICENSE|CHANGELOG)[.\w]*|dist\/.*\.(js|d\.ts|sql|lua|css)|dist\/console\/page\/[\w-]+\.(html|svg)|docs\/[\w/-]+\.md)$/
    assert.deepEqual(
      files.filter((name) => !allowed.test(name)),
      [],
    )
  })

  for (const major of majors) {
    it(`works on Node ${major}`, async (t) => {
      if (unreachable) return t.skip(unreachable)
      const folder = path.join(dir, `node-${major}`)
      const app = path.join(folder, 'my-app')
      const bin = path.join(folder, 'node_modules', '.bin')

      await step(t, 'installs in an empty folder', async () => {
        await mkdir(folder)
        await writeFile(path.join(folder, 'package.json'), '{"private":true}\n')
        await works('npm', [...install, tarball, `node@${major}`], folder)
        assert.match((await works('node', ['--version'], folder, bin)).stdout, new RegExp(`^v${major}\\.`))
        assert.equal((await works('rung', ['--version'], folder, bin)).stdout.trim(), version)
      })

      await step(t, 'makes a new app', async () => {
        const { stderr } = await works('rung', ['new', 'my-app'], folder, bin)
        assert.equal(stderr, '')
        assert.ok((await readdir(app)).includes('app.ts'))
        const { dependencies } = JSON.parse(await readFile(path.join(app, 'package.json'), 'utf8'))
        assert.equal(dependencies.rung, `file:../../rung-${version}.tgz`) // this very one, not the registry's
        await works('npm', install, app, bin)
      })

      await step(t, 'checks the types of the new app', async () => {
        await works('npm', ['run', 'check'], app, bin)
        const file = path.join(app, 'notes', 'module.ts')
        const source = await readFile(file, 'utf8')
        await writeFile(file, source.replace('return note\n', 'return { ...note, text: 1 }\n'))
        const { code, stdout } = await run('npm', ['run', 'check'], app, bin)
        assert.notEqual(code, 0)
        assert.match(stdout, /module\.ts[\s\S]*'?text'?[\s\S]*number/)
        await writeFile(file, source)
      })

      await step(t, "runs the new app's tests", async () => {
        const { stdout, stderr } = await works('npm', ['test'], app, bin)
        assert.match(stdout, /^(# |ℹ )pass 3$/m)
        assert.doesNotMatch(stdout + stderr, /Warning:/)
      })

      await step(t, 'runs it, and again after each change, until it is stopped', () => develop(app, bin))
    })
  }
})

/** The steps build on each other: where one fails, those behind it would only tell the same. */
async function step(t: TestContext, name: string, body: () => Promise<void>): Promise<void> {
  let passed = false
  await t.test(name, async () => {
    await body()
    passed = true
  })
  assert.ok(passed, `"${name}" failed`)
}

async function develop(app: string, bin: string): Promise<void> {
  const child = spawn('rung', ['dev'], {
    cwd: app,
    env: environment(bin, { PORT: '0', LOG_LEVEL: 'warn' }),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
  }
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve))
  try {
    const notes = () => answerOf(child, () => text)
    assert.deepEqual(await until(notes, 'the app answers'), [])
    // Beside the app, so that its files do not change.
    const scenario = path.join(app, '..', 'load.ts')
    await works('rung', ['load', 'init', scenario], app, bin)
    const drafted = await readFile(scenario, 'utf8')
    await writeFile(scenario, drafted.replace('defineScenario({', 'defineScenario({ lateMsMax: 60_000,')) // whatever else runs here
    const loaded = await works('rung', ['load', scenario, '--rate', '5', '--for', '1s'], app, bin)
    assert.match(loaded.stdout, /^GET \/notes +\d+ .* 0$/m)

    await writeFile(
      path.join(app, 'notes', 'migrations', '0002_mood.sql'),
      "alter table note add column mood text not null default 'calm';\ninsert into note (text) values ('added');\n",
    )
    const module = path.join(app, 'notes', 'module.ts')
    const source = await readFile(module, 'utf8')
    const edited = source
      .replace('text: Type.String() })', 'text: Type.String(), mood: Type.String() })')
      .replace('select id, text from notes.note order by', 'select id, text, mood from notes.note order by')
    assert.notEqual(edited, source)
    await writeFile(`${module}.new`, edited)
    await rename(`${module}.new`, module) // as most editors save
    const changed = await until(async () => {
      const rows = (await notes()) as { mood?: string }[] | undefined
      return rows?.[0]?.mood === undefined ? undefined : rows
    }, 'the changed app answers')
    assert.deepEqual(changed, [{ id: 1, text: 'added', mood: 'calm' }])
    assert.match(text, /migrated notes\/0002_mood\.sql/)

    // A mistake ends the app; the correction brings it back.
    await writeFile(module, `${edited}\nthrow new Error('not yet')\n`)
    await until(() => /not yet[\s\S]*Waiting for a change/.test(text), 'the mistake is told')
    await writeFile(module, edited)
    const from = text.length
    await until(() => /app +http/.test(text.slice(from)) || undefined, 'it starts again')
    assert.deepEqual(await until(notes, 'the corrected app answers'), changed)

    child.kill('SIGTERM')
    assert.equal(await exited, 0, text)
    assert.doesNotMatch(text, /Warning:/)
    assert.deepEqual(await processesOn(app), [])
  } finally {
    child.kill('SIGKILL')
    await endAllOn(app)
  }
}

/** `GET /notes` of the app as it was started last, or nothing while it does not answer. */
async function answerOf(child: ChildProcess, text: () => string): Promise<unknown> {
  assert.equal(child.exitCode, null, text())
  const url = [...text().matchAll(/app +(http:\S+)/g)].at(-1)?.[1]
  if (url === undefined) return undefined
  try {
    const answer = await fetch(`${url}/notes`)
    return answer.status === 200 ? await answer.json() : undefined
  } catch {
    return undefined // on its way down or up
  }
}
