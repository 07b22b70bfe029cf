import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { sleep } from '../src/kernel/clock.ts'
import { openBrowser } from '../test/support/browser.ts'
import { openScratch, until } from '../test/support/process.ts'
import type { Bench } from './run.ts'
import { treeCpuMs } from './support/cpu.ts'
import { machineFacts, progress, spread, table } from './support/report.ts'

const conduit = fileURLToPath(new URL('../examples/conduit/app.ts', import.meta.url))
/** In the browser: the first page says where the app stands. */
const isDrawn = `(() => {
  const [first] = document.querySelectorAll('main .panel')
  return document.querySelector('aside li') && first && !first.textContent.includes('Reading …')
})()`
/** In the browser: compressed, with headers. */
const bytesOfPage = `[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .reduce((sum, { transferSize }) => sum + transferSize, 0)`
const idleMs = 20_000
const targets = { firstViewMs: 1_000, bytes: 200 * 1024, idleShare: 0.01 }

const bench: Bench = {
  claim:
    'the console, once its process runs, shows its first page within a second, in 200 KB, and costs nothing while nobody looks',
  async run({ rounds = 5, json }) {
    const scratch = await openScratch()
    const browser = await openBrowser()
    try {
      const app = scratch.launch({ app: conduit, env: { RUNG_CONSOLE: 'show' } })
      const { console: address } = await app.started
      const token = (await readFile(path.join(scratch.dataDir, 'console-token'), 'utf8')).trim()
      async function firstView(): Promise<{ ms: number; bytes: number }> {
        const { page } = await browser.visit() // nothing is in its cache
        const began = performance.now()
        await page.goto(`${address}?token=${token}`)
        await until(() => page.evaluate(isDrawn), 'the first page is drawn')
        const ms = performance.now() - began
        const bytes = Number(await page.evaluate(bytesOfPage))
        await page.context().close()
        return { ms, bytes }
      }
      const idle = async (): Promise<number> => {
        const before = treeCpuMs(app.pid)
        await sleep(idleMs)
        return (treeCpuMs(app.pid) - before) / idleMs
      }
      if (!json) progress(`idle for ${idleMs / 1_000} s, before anybody looks`)
      const before = await idle()
      const cold = await firstView()
      const warm = []
      for (let round = 0; round < rounds; round += 1) warm.push(await firstView())
      if (!json) progress(`idle for ${idleMs / 1_000} s, after everybody has left`)
      const after = await idle()
      const result = {
        facts: machineFacts('embedded'),
        targets,
        firstViewMs: { cold: Math.round(cold.ms), warm: spread(warm.map(({ ms }) => Math.round(ms))) },
        bytes: cold.bytes,
        /** Shares of one core of the app, its Postgres and its console. */
        idle: { before, after },
      }
      if (!json)
        progress(
          table([
            ['', 'measured', 'target'],
            ['first view, the process starts', `${Math.round(cold.ms)} ms`, ''],
            ['first view', `${result.firstViewMs.warm.median} ms`, `${targets.firstViewMs} ms`],
            ['transferred', `${(cold.bytes / 1024).toFixed(0)} KB`, `${targets.bytes / 1024} KB`],
            ['of a core, before anybody looks', `${(before * 100).toFixed(1)} %`, ''],
            [
              'of a core, more after they have left',
              `${((after - before) * 100).toFixed(1)} %`,
              `${targets.idleShare * 100} %`,
            ],
          ]),
        )
      return result
    } finally {
      await browser.close()
      await scratch.end()
    }
  },
}
export default bench
