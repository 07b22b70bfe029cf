import { type ChildProcess, fork } from 'node:child_process'
import path from 'node:path'

export interface ForkedWorker {
  child: ChildProcess
  /** Resolves when it has ended, in whatever way. */
  gone: Promise<unknown>
}

/** Worker processes that run a file of this folder, and that a test kills. */
export function forkedWorkers(file: string) {
  const children = new Set<ChildProcess>()
  return {
    /** Resolves when it has said that it is ready, or has ended before. */
    async start(input: object): Promise<ForkedWorker> {
      const child = fork(path.join(import.meta.dirname, file), [JSON.stringify(input)], {
        execArgv: ['--conditions=rung-source'],
      })
      children.add(child)
      const gone = new Promise((resolve) => child.once('exit', resolve)).then(() => children.delete(child))
      await Promise.race([new Promise((resolve) => child.once('message', resolve)), gone])
      return { child, gone }
    },
    kill(): void {
      for (const child of children) child.kill('SIGKILL')
    },
  }
}
