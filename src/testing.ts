import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { App } from './app/define-app.ts'
import { boot } from './runtime/boot.ts'
import { readConfig } from './runtime/config.ts'
import { createLog } from './runtime/log.ts'

/** An app that runs for a test. */
export interface TestApp {
  /** `http://127.0.0.1:49152` */
  readonly url: string
  /** Stops it and removes its data. */
  stop(): Promise<void>
}

/**
 * Runs `app` in this process, on a free port, with an empty database of its own: the real one, not a stand-in. Statements
 * that cross a module's border fail here.
 */
export async function startForTest(app: App): Promise<TestApp> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const config = readConfig({ PORT: '0', NODE_ENV: 'test', RUNG_DATA: dir, LOG_LEVEL: 'warn' }, dir)
  try {
    const running = await boot(app, config, {
      log: createLog(app.name, config.logLevel, { format: 'auto', frames: true }),
    })
    return {
      url: running.url,
      async stop() {
        await running.stop()
        await rm(dir, { recursive: true, force: true })
      },
    }
  } catch (error) {
    await rm(dir, { recursive: true, force: true })
    throw error
  }
}
