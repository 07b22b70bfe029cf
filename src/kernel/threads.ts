import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { after } from './clock.ts'
import { RungError } from './errors.ts'
import { type Duration, type Size, toBytes, toMs } from './units.ts'

/** Options of `inThread`. */
export interface ThreadOptions<Input = unknown> {
  /** Time limit of a call. After that its thread is ended, whatever it does. Default `1s`. */
  timeout?: Duration
  /** Maximum number of threads, which are started when they are needed. Default: one less than the cores, at least 1. */
  threads?: number
  /** Calls that may wait for a thread. Further ones are refused. Default 100. */
  waitingMax?: number
  /** Memory of each thread. Default `128MiB`. */
  memoryMax?: Size
  /**
   * Estimates the work of a call in any unit, such as the length of a text. Small calls run first, and when too many wait, the largest is
   * refused, so senders of large inputs wait and others do not. Default: calls run in their order, and the last is refused.
   */
  costOf?: (input: Input) => number
}

interface Task {
  input: unknown
  cost: number
  resolve(output: never): void
  reject(error: unknown): void
}

/** Time limit for the start of a thread and its module. The limit of a call begins after that. */
const startMsMax = 30_000
/** After this time an idle thread is ended. The next call starts one again, in about 50 ms. */
const idleMsMax = 30_000

/** The thread's code: calls the default export of the module with each input. */
const bootstrap = `
const { parentPort, workerData } = require('node:worker_threads')
const loaded = import(workerData)
loaded.catch(() => {}).then(() => parentPort.postMessage('ready'))
parentPort.on('message', async ({ input }) => {
  try {
    const { default: run } = await loaded
    parentPort.postMessage({ output: await run(input) })
  } catch (error) {
    let stack = 'it cannot be shown'
    try { stack = String(error?.stack ?? error) } catch {}
    parentPort.postMessage({ failed: stack })
  }
})`

/**
 * Returns a function that calls the default export of a module in a worker thread, with a time limit that also ends an endless loop. Use it
 * for CPU work on users' input (markup, images, parsers), which would delay all other requests on the event loop. Input and output are
 * copied (structured clone). A call costs about 0.1 ms more than a direct one.
 *
 * The returned function rejects with THREAD_TIMEOUT if the call takes too long, and with THREAD_BUSY if too many calls wait.
 * @example
 * const render = inThread<string, string>(new URL('./render.ts', import.meta.url), { timeout: '250ms' })
 * const page = await render('# Hello')
 */
export function inThread<Input, Output>(
  module: URL,
  { timeout = '1s', threads, waitingMax = 100, memoryMax = '128MiB', costOf = () => 0 }: ThreadOptions<Input> = {},
): (input: Input) => Promise<Output> {
  const timeoutMs = toMs(timeout)
  const threadsMax = threads ?? Math.max(1, availableParallelism() - 1)
  const resourceLimits = { maxOldGenerationSizeMb: Math.ceil(toBytes(memoryMax) / 1024 ** 2) }
  const waiting: Task[] = []
  const idle: { run(task: Task): void }[] = []
  let count = 0

  function start(): { run(task: Task): void } {
    const worker = new Worker(bootstrap, { eval: true, workerData: module.href, resourceLimits })
    count += 1
    let ready = false
    let current: Task | undefined
    let forget = after(0, () => {})
    const thread = {
      run(task: Task) {
        forget()
        current = task
        worker.ref()
        if (ready) send(task)
        else forget = after(startMsMax, () => end(new Error(`the thread did not start within ${startMsMax} ms`)))
      },
    }

    function send(task: Task): void {
      forget()
      forget = after(timeoutMs, () => end(timedOut()))
      try {
        worker.postMessage({ input: task.input })
      } catch (error) {
        settle((one) => one.reject(error)) // the input cannot be copied
      }
    }

    function settle(how: (task: Task) => void): void {
      forget()
      const done = current
      current = undefined
      const next = waiting.shift()
      if (next) thread.run(next)
      else {
        idle.push(thread)
        worker.unref() // an idle thread does not keep the process alive
        forget = after(idleMsMax, () => end(undefined))
      }
      if (done) how(done)
    }

    let over = false
    function end(reason: unknown): void {
      if (over) return
      over = true
      forget()
      count -= 1
      const at = idle.indexOf(thread)
      if (at >= 0) idle.splice(at, 1)
      void worker.terminate()
      current?.reject(reason)
      const next = waiting.shift()
      if (next) start().run(next)
    }

    worker.on('message', (said: 'ready' | { output: never } | { failed: string }) => {
      if (over) return
      if (said === 'ready') {
        ready = true
        if (current) send(current)
        return
      }
      settle((task) =>
        'failed' in said ? task.reject(new Error(`in a thread: ${said.failed}`)) : task.resolve(said.output),
      )
    })
    worker.on('error', end)
    worker.on('exit', () => end(new Error('the thread has ended')))
    return thread
  }

  function busy(): RungError {
    return new RungError('THREAD_BUSY', 'Too many computations are waiting. Try again shortly.')
  }

  function timedOut(): RungError {
    return new RungError('THREAD_TIMEOUT', `A computation took longer than ${timeoutMs} ms. Give it less to do.`)
  }

  return (input) =>
    new Promise<Output>((resolve, reject) => {
      const task: Task = { input, cost: costOf(input), resolve, reject }
      const free = idle.pop()
      if (free) free.run(task)
      else if (count < threadsMax) start().run(task)
      else {
        const larger = waiting.findIndex(({ cost }) => cost > task.cost)
        waiting.splice(larger < 0 ? waiting.length : larger, 0, task)
        if (waiting.length > waitingMax) waiting.pop()!.reject(busy())
      }
    })
}
