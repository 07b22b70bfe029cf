import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { App } from '../../src/app/define-app.ts'
import { type BootOptions, boot, type Running } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { type Bindings, readBindings } from '../../src/topology/bindings.ts'
import { type TestPostgres, urlOf } from './postgres.ts'

/** All keys of apps that `bootForTest` starts are derived from it. */
export const rootSecret = 'a secret of the tests, long enough to be one'

/** Boots an app in this process, on a database of its own of a test Postgres, on a free port, with a data directory that is gone after its stop. */
export async function bootForTest(
  app: App,
  postgres: TestPostgres,
  overrides: Partial<Bindings> = {},
  extensions: BootOptions['extensions'] = [],
  settings: Record<string, string> = {},
  options: Partial<BootOptions> = {},
): Promise<Running> {
  const env: Record<string, string> = {
    PORT: '0',
    NODE_ENV: 'test',
    LOG_LEVEL: 'silent',
    DATABASE_URL: urlOf(await postgres.createDatabase()),
    RUNG_SECRET: rootSecret,
    ...settings,
  }
  const dir =
    overrides.dataDir === undefined && !env.RUNG_DATA ? await mkdtemp(path.join(tmpdir(), 'rung-test-')) : undefined
  const config = { ...readBindings(env, process.cwd()), ...(dir && { dataDir: dir }), ...overrides }
  const forget = async () => {
    if (dir) await rm(dir, { recursive: true, force: true })
  }
  try {
    const running = await boot(app, config, { log: createLog('test', config.log.level), extensions, ...options })
    return { ...running, stop: () => running.stop().finally(forget) }
  } catch (error) {
    await forget()
    throw error
  }
}
