import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { App } from './app/define-app.ts'
import { sleep, systemClock } from './kernel/clock.ts'
import { RungError } from './kernel/errors.ts'
import { type ReadMessage, readMessage } from './primitives/mail/read-message.ts'
import { boot } from './runtime/boot.ts'
import { createLog } from './runtime/log.ts'
import type { Primitives } from './runtime/primitives.ts'
import { readBindings } from './topology/bindings.ts'

export interface TestOptions {
  /** Settings by the names that they have in the environment: `{ RUNG_LIMITS: 'on' }`. `PORT` and `RUNG_DATA` are set already. */
  env?: Readonly<Record<string, string>>
}

/** An app that runs for a test. */
export interface TestApp {
  /** `http://127.0.0.1:49152` */
  readonly url: string
  /**
   * Resolves when no job and no event is due or runs. It does not wait for those of a later moment, such as further tries.
   * @throws JOB_TIMEOUT after 30 s
   */
  idle(): Promise<void>
  /** The mails that were sent, the oldest first; `headers` by their names in lower case. */
  mails(): Promise<ReadMessage[]>
  /** Stops it and removes its data. */
  stop(): Promise<void>
}

const idleWithinMs = 30_000
const lookEveryMs = 20

/**
 * Runs `app` in this process, on a free port, with an empty database of its own: the real one, not a stand-in. Statements
 * that cross a module's border fail here.
 */
export async function startForTest(app: App, { env = {} }: TestOptions = {}): Promise<TestApp> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  try {
    const bindings = readBindings({ NODE_ENV: 'test', LOG_LEVEL: 'warn', ...env, PORT: '0', RUNG_DATA: dir }, dir)
    let queue: Primitives['queue'] | undefined
    const running = await boot(app, bindings, {
      log: createLog(app.name, bindings.log.level, { format: 'auto', frames: true }),
      extensions: [
        (_http, { primitives }) => {
          queue = primitives.queue
        },
      ],
    })
    return {
      url: running.url,
      async idle() {
        const end = systemClock.ticks() + idleWithinMs
        for (;;) {
          const busy = (await queue!.count()).filter((one) => one.waiting + one.running > 0)
          if (busy.length === 0) return
          if (systemClock.ticks() > end) {
            const names = busy.map((one) => `${one.queue} (${one.waiting + one.running})`).join(', ')
            throw new RungError('JOB_TIMEOUT', `After ${idleWithinMs / 1000} s there is still work: ${names}.`)
          }
          await sleep(lookEveryMs)
        }
      },
      async mails() {
        const folder = path.join(dir, 'mail')
        const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.eml')).sort()
        return Promise.all(names.map(async (name) => readMessage(await readFile(path.join(folder, name)))))
      },
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
