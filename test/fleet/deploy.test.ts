import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ledgerProject, type Project, readHandler, versionsAt } from '../support/deploys.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { underLoad as loaded, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { type Facts, launchRung, openScratch, type Scratch, sameExit, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

interface Deployed {
  build: string
  previous: string
  outcome: string
  reason: string | null
  migrations: string[]
}

interface PartNow {
  name: string
  state: string
  pid: number
  restarts: number
  build?: string
}

const guard = "import { Type } from 'typebox'"
const nothingFailed = { writes: [], reads: [] }

for (const { rung, webs, skip } of [
  { rung: '10k', webs: 1, skip: noRedis || noNginx },
  { rung: '100k', webs: 2, skip: noRedis || noNginx || noHaproxy || noPooler },
]) {
  describe(`rung deploy at ${rung}`, { skip }, () => {
    let scratch: Scratch & { end(): Promise<void> }
    let facts: Facts
    let project: Project
    before(async () => {
      scratch = await openScratch()
      project = await ledgerProject(path.join(scratch.dir, 'ledger'))
      const args = ['--web', String(webs), ...(rung === '100k' ? ['--replicas', '0'] : [])]
      facts = await scratch.launch({ up: rung, app: project.app, args }).started
      await write(facts, 'first')
    })
    after(() => scratch?.end())

    const launch = (...command: string[]) =>
      launchRung({ command: [...command, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
    async function rungs<T>(code: number, ...command: string[]): Promise<T> {
      const { exited, stdout, stderr } = launch(...command)
      const exit = await exited
      assert.equal(exit.code, code, stdout() + stderr())
      return JSON.parse(stdout()) as T
    }
    const deploy = (code: number, ...args: string[]) => rungs<Deployed>(code, 'deploy', '--watch', '2s', ...args)
    const parts = async () => (await rungs<{ parts: PartNow[] }>(0, 'ps', '--brief')).parts
    const builds = async () => [...new Set((await parts()).flatMap(({ build }) => build ?? []))]
    const names = async () => (await parts()).map(({ name }) => name).filter((name) => /web|worker/.test(name))
    const underLoad = async (body: () => Promise<unknown>) => {
      const outcome = await loaded(facts, body)
      // Which part was at fault only the logs say, and they go with the fleet.
      if (outcome.reads.length + outcome.writes.length > 0) console.log(logsIn(scratch.dataDir))
      return outcome
    }
    const before1 = [...Array.from({ length: webs }, (_, n) => `web-${n + 1}`), 'worker-1']

    it('replaces the code of all processes while a column is added, and no request fails', async () => {
      await project.write('2')
      await project.migration('0002_note.sql', 'alter table entry add column note text;\n')
      let done: Deployed | undefined
      const outcome = await underLoad(async () => {
        done = await deploy(0)
      })
      assert.deepEqual(outcome, nothingFailed)
      assert.deepEqual([done!.outcome, done!.migrations], ['done', ['ledger/0002_note.sql']])
      assert.equal(await versionsAt(facts), '2')
      assert.deepEqual(await builds(), [done!.build])
      assert.deepEqual(await names(), before1)
      const [last] = await rungs<(Deployed & { startedBy: string })[]>(0, 'deploys')
      assert.deepEqual(
        [last!.build, last!.previous, last!.startedBy, last!.outcome],
        [done!.build, done!.previous, 'rung deploy', 'done'],
      )
    })

    const bad: [what: string, changes: Record<string, string>, why: RegExp, reads: RegExp][] = [
      [
        'throws at its start',
        { [guard]: `${guard}\nif (process.argv.includes('start')) throw new Error('broken')` },
        /broken/,
        /^$/,
      ],
      [
        'answers with 500',
        { [readHandler]: `${readHandler}\n      throw new Error('bad build')` },
        /% of \d+ requests to the new build failed with 5xx/,
        /^500 /,
      ],
    ]
    // At the higher rung all of it takes longer, and only the balancer is another one.
    for (const [what, changes, why, reads] of webs > 1 ? bad.slice(1, 2) : bad) {
      it(`goes back to the old code when the new one ${what}`, async () => {
        const [old] = await builds()
        const pids = (await parts()).map(({ pid }) => pid)
        await project.write('bad', changes)
        let done: Deployed | undefined
        const outcome = await underLoad(async () => {
          done = await rungs<Deployed>(1, 'deploy', '--watch', '20s')
        })
        assert.equal(done!.outcome, 'rolled back')
        assert.match(done!.reason!, why)
        assert.deepEqual(outcome.writes, [])
        for (const read of outcome.reads) assert.match(read, reads)
        assert.equal(await versionsAt(facts), '2')
        assert.deepEqual(await builds(), [old])
        assert.deepEqual(
          (await parts()).map(({ pid }) => pid),
          pids,
          'no process of the old code was touched',
        )
        const [last] = await rungs<Deployed[]>(0, 'deploys')
        assert.deepEqual([last!.outcome, last!.reason], ['rolled back', done!.reason])
      })
    }

    it('goes back when a worker does not start, and an old process starts on the newer database', async () => {
      const [old] = await builds()
      await project.write('3', {
        [guard]: `${guard}\nif (process.env.RUNG_ROLE === 'worker') throw new Error('no worker')`,
      })
      await project.migration('0003_more.sql', 'alter table entry add column more text;\n')
      let done: Deployed | undefined
      const outcome = await underLoad(async () => {
        done = await deploy(1)
      })
      assert.deepEqual(outcome, nothingFailed)
      assert.match(done!.reason!, /no worker/)
      assert.deepEqual(done!.migrations, ['ledger/0003_more.sql'])
      assert.deepEqual([await versionsAt(facts), await builds(), await names()], ['2', [old], before1])
      // Every web process was restarted with the old code, which knows no 0003.
      if (rung !== '100k') return
      await rungs(0, 'scale', `web=${webs + 1}`)
      assert.deepEqual([await versionsAt(facts), await builds()], ['2', [old]])
      await rungs(0, 'scale', `web=${webs}`)
    })

    it('completes when processes are killed meanwhile, and refuses other changes until then', async () => {
      await project.write('4')
      const { writes, reads } = await underLoad(async () => {
        const running = launch('deploy', '--watch', '20s')
        await running.saw(/compares web-\d with the others/)
        const busy = await rungs<{ error: { code: string } }>(1, 'deploy')
        assert.equal(busy.error.code, 'FLEET_BUSY')
        const seen = await parts()
        assert.equal(new Set(seen.flatMap(({ build }) => build ?? [])).size, 2, 'old and new run side by side')
        await rungs(0, 'kill', `web-${webs + 1}`, '--yes')
        if (webs > 1) {
          await until(async () => {
            const killed = (await parts()).find(({ name }) => name === `web-${webs + 1}`)
            return killed?.state === 'running'
          }, 'it runs again')
          await rungs(0, 'kill', 'web-2', '--yes')
        }
        sameExit(await running.exited, 0)
      })
      assert.deepEqual(reads, [])
      // A write that was under way in a killed process has an unknown outcome, or was not begun.
      for (const outcome of writes) assert.match(outcome, /^502 HTTP_OUTCOME_UNKNOWN$|^503 /)
      assert.deepEqual([await versionsAt(facts), (await builds()).length, await names()], ['4', 1, before1])
    })

    it('refuses what would break the running code and what is not there, and leaves alone what runs already', async () => {
      await project.write('4', { [guard]: `${guard}\nthrow new Error('it cannot be loaded')` })
      const broken = await rungs<{ error: { message: string } }>(1, 'deploy')
      assert.match(
        broken.error.message,
        /^app\.ts cannot be loaded: app\.ts:\d+:\d+: it cannot be loaded\. No process was restarted\./,
      )
      await project.write('4')
      const same = await rungs<Deployed>(0, 'deploy')
      assert.deepEqual([same.outcome, same.build], ['unchanged', same.previous])
      const nowhere = await rungs<{ error: { code: string } }>(1, 'deploy', 'nowhere')
      assert.equal(nowhere.error.code, 'APP_NOT_FOUND')
      const pids = (await parts()).map(({ pid }) => pid)
      await project.write('5')
      await project.migration(
        '0004_drop.sql',
        '-- rung:allow breaks-running-code it is not used\nalter table entry drop column body;\n',
      )
      const refused = await rungs<{ error: { code: string; message: string } }>(1, 'deploy')
      assert.equal(refused.error.code, 'MIGRATION_UNSAFE')
      assert.match(refused.error.message, /still-used: The running release still uses body \(app\.ts:\d+\)/)
      assert.deepEqual(
        (await parts()).map(({ pid }) => pid),
        pids,
      )
      assert.equal((await rungs<Deployed[]>(0, 'deploys'))[0]!.outcome, 'refused')
    })
  })
}

/** The ends of all logs of a fleet. */
function logsIn(dataDir: string): string {
  const files = globSync('fleet/*/server.log', { cwd: dataDir })
  return files.map((file) => `${file}\n${readFileSync(path.join(dataDir, file), 'utf8').slice(-3_000)}`).join('\n')
}
