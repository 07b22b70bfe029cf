import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { memberFiles } from '../../src/engines/postgres/members.ts'
import { processesIn } from '../../src/engines/process/processes-in.ts'
import { ledgerProject } from '../support/deploys.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { underLoad, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { type Facts, launchRung, openScratch, type Scratch, sameExit, sendTo, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const skip = noRedis || noNginx || noHaproxy || noPooler

describe('rung climb downwards, while the primary is lost', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    const project = await ledgerProject(path.join(scratch.dir, 'ledger'))
    await project.write('1', {
      "import { Type } from 'typebox'": `import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from 'typebox'`,
      '  routes(http, { data }) {': `  routes(http, { data }) {
    http.get('/slow', async () => {
      await sleep(500)
      return {}
    })`,
    })
    facts = await scratch.launch({ up: '100k', app: project.app }).started
    await write(facts, 'first')
  })
  after(() => scratch?.end())

  const launch = (...command: string[]) =>
    launchRung({ command: [...command, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
  const climb = (rung: string) => launch('climb', rung, '--watch', '0s', '--accept', 'backup,memory')
  async function shown(): Promise<{ rung: string; parts: { name: string; state: string }[] }> {
    const { exited, stdout } = launch('ps')
    sameExit(await exited, 0)
    return JSON.parse(stdout())
  }

  for (const note of [/web-1 drains, \d+ requests? left/, /web-3 has stopped/, /pooler has stopped/]) {
    it(`loses nothing that was acknowledged, and writes go on: ${note.source}`, async () => {
      if ((await shown()).rung !== '100k') sameExit(await climb('100k').exited, 0)
      let over = false
      /** So many that each of three processes has some at any time, however they are spread. */
      async function askSlowly(): Promise<void> {
        while (!over) await fetch(`${facts.url}/slow`).then((answer) => answer.text())
      }
      const slow = Array.from({ length: 24 }, askSlowly)
      const { writes } = await underLoad(facts, async () => {
        const climbing = climb('10k')
        await climbing.saw(note)
        for (const pid of await processesIn(memberFiles(scratch.dataDir, 'postgres').data)) sendTo(pid, 'SIGKILL')
        const { code } = await climbing.exited
        const { rung } = await shown()
        assert.equal(rung, code === 0 ? '10k' : '100k', climbing.stdout())
        await until(async () => (await shown()).parts.every(({ state }) => state === 'running'), 'all parts run')
      }).finally(() => {
        over = true
      })
      await Promise.all(slow)
      // A write in a server that was lost has an unknown outcome; another one is told to try again.
      for (const outcome of writes)
        assert.match(outcome, /^503 |^no answer|^502 HTTP_OUTCOME_UNKNOWN/, writes.join('; '))
    })
  }
})
