import { readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type App, fileOfApp } from '../app/define-app.ts'
import { seededRandom } from '../kernel/random.ts'
import { currentScope } from '../kernel/scope.ts'
import { type BootOptions, boot } from '../runtime/boot.ts'
import { requireApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { readBindings } from '../topology/bindings.ts'
import { makeTimeMovable, testClock } from './clock.ts'
import { addJsonLine } from './json-lines.ts'
import { shuffleRequests } from './shuffle.ts'
import { withSignIn } from './sign-in-door.ts'

/** What the thread of a second node is given. */
interface NodeInput {
  isTestNode: true
  file: string
  /** The name by which the file exports the app. */
  name: string
  env: Readonly<Record<string, string>>
  dir: string
  signInPath: string
}

/** In the folder of a run. */
export const seedName = 'seed'
export const notesName = 'apps.jsonl'

type Ask = { ahead: number } | 'stop'
type Answer = { url: string } | 'done'

/** How one app of a test ran, for `rung test --nodes`. */
export interface NodesNote {
  readonly app: string
  /** The test file. */
  readonly file: string
  /** Where the app is from, if it ran on two nodes. */
  readonly appFile?: string
  /** Why it ran on one node only. */
  readonly problem?: string
}

interface SecondNode {
  /** Where requests are spread over both nodes. */
  readonly url: string
  setAhead(ms: number): Promise<void>
  stop(): Promise<void>
}

/**
 * Both nodes know of each commit before they answer a request: what processes hear late is no matter of state, and shown by other means
 * (`rung test --lag`).
 */
export const nodeOptions: Pick<BootOptions, 'extensions' | 'rememberSessions'> = {
  rememberSessions: false,
  extensions: [
    (http) => {
      http.addHook('onRequest', (_request, _reply, done) => {
        const scope = currentScope()
        if (scope) scope.positionUnknown = true
        done()
      })
    },
  ],
}

/** How many test apps this process has started: each has an order of its own. */
let apps = 0

interface SecondNodeOptions extends Omit<NodeInput, 'isTestNode' | 'file' | 'name'> {
  app: App
  /** What the test gave: the app itself, or its file. */
  of: App | string | undefined
  /** The folder of the run: its seed is there, and notes go there. */
  folder: string
  /** The environment of this process. */
  processEnv: Readonly<Record<string, string | undefined>>
  firstUrl: string
}

/**
 * Starts the app once more, in a thread that has modules of its own, on the same database and folder. A thread ends with its process.
 * @returns nothing where the app cannot be loaded a second time; the run is told
 */
export async function startSecondNode(options: SecondNodeOptions): Promise<SecondNode | undefined> {
  const { app, of, folder, firstUrl, processEnv, ...rest } = options
  const { NODE_TEST_CONTEXT: _, ...threadEnv } = processEnv // the files of the app must not report tests
  const testFile = process.argv[1] ?? ''
  const found = await exportOf(app, of)
  const note: NodesNote = { app: app.name, file: testFile, ...('problem' in found ? found : { appFile: found.file }) }
  addJsonLine(path.join(folder, notesName), note)
  if ('problem' in found) return undefined
  const thread = new Worker(new URL(import.meta.url), {
    workerData: { isTestNode: true, ...found, ...rest } satisfies NodeInput,
    env: threadEnv,
  })
  const ended = new Promise<never>((_, reject) => {
    thread.once('error', reject)
    thread.once('exit', () => reject(new Error(`The second node of "${app.name}" has ended.`)))
  })
  ended.catch(() => {})
  const answer = () => {
    const answered = new Promise<Answer>((resolve) => thread.once('message', resolve))
    return Promise.race([answered, ended])
  }
  let answered = answer()
  /** One after the other, since an answer does not say what was asked. */
  async function ask(what: Ask): Promise<void> {
    answered = answered.then(() => {
      thread.postMessage(what)
      return answer()
    })
    await answered
  }
  try {
    const { url } = (await answered) as { url: string }
    apps += 1
    const seed = Number(readFileSync(path.join(folder, seedName), 'utf8'))
    const shuffle = await shuffleRequests([firstUrl, url], seededRandom(seed + apps))
    return {
      url: shuffle.url,
      setAhead: (ms) => ask({ ahead: ms }),
      async stop() {
        await shuffle.stop()
        await ask('stop').finally(() => thread.terminate())
      },
    }
  } catch (error) {
    await thread.terminate()
    throw error
  }
}

const alone =
  'A second node cannot load it. Export it from a file of its own, which is no test: export default defineApp({ … })'

/** Where a thread finds the app. */
async function exportOf(
  app: App,
  of: App | string | undefined,
): Promise<{ file: string; name: string } | { problem: string }> {
  if (typeof of !== 'object') return { file: requireApp(of, process.cwd()), name: 'default' }
  const file = fileOfApp(app)
  if (file === undefined || file === path.resolve(process.argv[1] ?? '')) return { problem: alone }
  const exported = (await import(pathToFileURL(file).href)) as Record<string, unknown>
  const name = Object.keys(exported).find((key) => exported[key] === app)
  return name === undefined ? { problem: alone } : { file, name }
}

/** In the thread. Jobs and crons run on the first node alone. */
async function serve({ file, name, env, dir, signInPath }: NodeInput): Promise<void> {
  makeTimeMovable()
  const app = ((await import(pathToFileURL(file).href)) as Record<string, App>)[name]!
  const bindings = readBindings(env, dir)
  const running = await boot(withSignIn(app, signInPath), bindings, {
    ...nodeOptions,
    log: createLog(app.name, bindings.log.level, { format: 'auto', frames: true }),
    startWork: () => async () => {},
  })
  const say = (what: Answer) => parentPort!.postMessage(what)
  let aheadMs = 0
  parentPort!.on('message', async (asked: Ask) => {
    if (asked === 'stop') await running.stop()
    else {
      await testClock.advance(asked.ahead - aheadMs)
      aheadMs = asked.ahead
    }
    say('done')
  })
  say({ url: running.url })
}

if (!isMainThread && (workerData as Partial<NodeInput> | null)?.isTestNode) await serve(workerData as NodeInput)
