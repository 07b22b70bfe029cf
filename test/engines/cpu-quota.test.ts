import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import { hierarchiesIn, limitOf, openCpuQuota } from '../../src/engines/process/cpu-quota.ts'
import { type Facts, launchRung, sameExit, until, withScratch } from '../support/process.ts'

const probe = openCpuQuota('test', 1)
await probe.close()
const skip = probe.problem

/** The control group of a process that limits its CPU time, such as /rung-3f2a….app; `undefined` when the process has ended. */
function groupOf(pid: number): string | undefined {
  try {
    return /^(?:\d+:(?:[\w,]*,)?cpu(?:,[\w,]*)?|0:):(.*\/rung-.*)$/m.exec(
      readFileSync(`/proc/${pid}/cgroup`, 'utf8'),
    )?.[1]
  } catch {
    return undefined
  }
}

describe('a CPU quota', () => {
  it('is a share of a period that is short, as far as the kernel allows', () => {
    assert.deepEqual(limitOf(0.4), { periodUs: 10_000, quotaUs: 4_000 })
    assert.deepEqual(limitOf(2), { periodUs: 10_000, quotaUs: 20_000 })
    assert.deepEqual(limitOf(0.05), { periodUs: 20_000, quotaUs: 1_000 })
  })

  it('is set in the group of this process, or with version 2 also in one above it', () => {
    const v1 =
      '39 37 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n40 37 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n'
    assert.deepEqual(hierarchiesIn(v1, '9:cpuset:/a\n2:cpu,cpuacct:/user\n'), [
      { version: 1, dir: '/sys/fs/cgroup/cpu,cpuacct/user' },
    ])
    const v2 = '30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n'
    assert.deepEqual(
      hierarchiesIn(v2, '0::/user.slice/app.scope\n').map(({ dir }) => dir),
      ['/sys/fs/cgroup/user.slice/app.scope', '/sys/fs/cgroup/user.slice', '/sys/fs/cgroup'],
    )
    const container = '30 24 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup cgroup ro,cpu\n'
    assert.deepEqual(hierarchiesIn(container, '2:cpu:/docker/c1/in\n'), [{ version: 1, dir: '/sys/fs/cgroup/in' }])
    assert.deepEqual(hierarchiesIn('', ''), [])
  })

  it('is missed with a reason where no group can be made, and the process runs without it', () => {
    const quota = openCpuQuota('test', 0.5, { version: 1, dir: '/dev/null' })
    assert.match(quota.problem ?? '', /^A control group cannot be made: .*ENOTDIR/)
    assert.deepEqual(quota.launcher('web-1').prefix, [])
    assert.equal(openCpuQuota('test', undefined).problem, undefined)
  })

  it('slows a process down from its first instruction, and its group goes with it', { skip }, async () => {
    const quota = openCpuQuota('test', 0.1)
    const [program, ...args] = quota.launcher('burner').prefix
    const burner = spawn(program!, [...args, process.execPath, '-e', 'for (;;) {}'], { stdio: 'ignore' })
    try {
      const group = await until(() => groupOf(burner.pid!), 'it is in its group')
      assert.ok(group.endsWith('/rung-test.burner'), group)
      const stat = path.join(path.dirname(args.at(-1)!), 'cpu.stat')
      await until(() => /nr_throttled [1-9]/.test(readFileSync(stat, 'utf8')), 'it is held back')
    } finally {
      burner.kill('SIGKILL')
      await once(burner, 'exit')
      await quota.close()
    }
    assert.throws(() => readFileSync(args.at(-1)!), { code: 'ENOENT' })
  })

  it('holds for the app of rung up and for no engine, and outlives neither a stop nor a kill', { skip }, () =>
    withScratch(async ({ dataDir, dir, launch }) => {
      const env = { RUNG_NODE_CPU: '0.8' }
      const up = launch({ up: '1k', env })
      const pids = pidsOf(await up.started)
      const group = groupOf(pids.app!)
      assert.match(group ?? '', /\/rung-\w{12}\.app-1$/)
      assert.equal(groupOf(pids.postgres!), undefined)
      const ps = launchRung({ command: ['ps', '--brief'], dataDir, cwd: dir })
      sameExit(await ps.exited, 0)
      assert.match(ps.stdout(), /^Each process of the app may use 0\.8 cores\.$/m)

      process.kill(up.pid, 'SIGKILL')
      await until(() => groupOf(pids.app!) === undefined, 'the app has ended with it')
      const unlimited = launch({ up: '1k' })
      assert.equal(groupOf(pidsOf(await unlimited.started).app!), undefined)
      assert.deepEqual(groupsOf(group!), [])
      sameExit(await unlimited.stop(), 0)

      const again = launch({ up: '1k', env })
      await again.started
      assert.equal(groupsOf(group!).length, 1)
      sameExit(await again.stop(), 0)
      assert.deepEqual(groupsOf(group!), [])
    }),
  )
})

function pidsOf({ parts }: Facts): { app?: number; postgres?: number } {
  return Object.fromEntries(parts!.map(({ name, pid }) => [name.replace('-1', ''), pid]))
}

/** Returns the groups of the same fleet that exist now. */
function groupsOf(group: string): string[] {
  const prefix = path.basename(group).replace(/\..*/, '.')
  return globSync(`/sys/fs/cgroup/**/${prefix}*`)
}
