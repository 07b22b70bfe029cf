import assert from 'node:assert/strict'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { launchRung, sameExit, until, withScratch } from '../support/process.ts'

const own = path.resolve(import.meta.dirname, '../..')
const text = (name: string) => `import { defineApp, defineModule } from 'rung'
const things = defineModule({ name: 'things', owner: 'tests' })
export default defineApp({ name: '${name}', modules: [things] })
`

describe('rung deploys', () => {
  it('lists each start with another build, and no other one', () =>
    withScratch(async ({ dir, dataDir, start }) => {
      const app = path.join(dir, 'shop', 'app.ts')
      await mkdir(path.join(dir, 'shop', 'node_modules'), { recursive: true })
      await symlink(own, path.join(dir, 'shop', 'node_modules', 'rung'))
      const list = async () => {
        const { exited, stdout } = launchRung({ command: ['deploys', '--json'], dataDir, cwd: dir })
        sameExit(await exited, 0)
        return JSON.parse(stdout()) as { build: string; previous: string | null; startedBy: string; outcome: string }[]
      }
      const startOnce = async (name: string, count: number, env = {}) => {
        await writeFile(app, text(name))
        const running = await start({ app, env })
        const found = await until(async () => {
          const deploys = await list()
          return deploys.length === count && deploys
        }, `${count} deploys are recorded`)
        sameExit(await running.stop(), 0)
        return found
      }
      const [first] = await startOnce('one', 1)
      assert.match(first!.build, /^[0-9a-f]{12}$/)
      assert.deepEqual([first!.previous, first!.startedBy, first!.outcome], [null, 'rung start', 'done'])
      await startOnce('one', 1)
      const [second] = await startOnce('two', 2)
      assert.equal(second!.previous, first!.build)
      const [third] = await startOnce('two', 3, { RUNG_BUILD: 'v3' })
      assert.deepEqual([third!.build, third!.previous], ['v3', second!.build])
      const none = launchRung({ command: ['deploy', '--json'], dataDir, cwd: dir })
      sameExit(await none.exited, 1)
      assert.match(none.stdout(), /FLEET_NOT_RUNNING[\s\S]*"rung up\\" or \\"rung start\\" starts the new code/)
      const shown = launchRung({ command: ['deploys'], dataDir, cwd: dir })
      sameExit(await shown.exited, 0)
      const lines = shown.stdout().split('\n')
      assert.match(lines[0]!, /^when +build +rung +by +outcome$/)
      assert.match(lines[1]!, /^20\S+Z +v3 +1k +rung start +done$/)
      for (const line of lines) assert.ok(line.length <= 80, line)
    }))
})
