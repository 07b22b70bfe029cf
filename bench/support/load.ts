import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** So many requests over so many connections, each of which sends the next one when it has its answer. */
export interface LoadJob {
  /** `http://127.0.0.1:3000` */
  url: string
  /** Taken in turn. */
  requests: readonly LoadRequest[]
  count: number
  connections: number
}

export interface LoadRequest {
  path: string
  headers?: Record<string, string>
}

export interface LoadResult {
  requests: number
  /** Answers other than 200. */
  failures: number
  seconds: number
}

export interface Load {
  run(job: LoadJob): Promise<LoadResult>
  stop(): void
}

/** A load generator in a process of its own, so that its work is nobody else's. */
export function startLoad(): Load {
  const child: ChildProcess = fork(fileURLToPath(new URL('load-process.ts', import.meta.url)))
  return {
    run(job) {
      return new Promise((resolve, reject) => {
        const onExit = (code: number | null) => reject(new Error(`the load generator ended with ${code}`))
        child.once('exit', onExit)
        child.once('message', (message) => {
          child.off('exit', onExit)
          const { error, result } = message as { error?: string; result: LoadResult }
          if (error === undefined) resolve(result)
          else reject(new Error(error))
        })
        child.send(job)
      })
    },
    stop() {
      child.disconnect()
    },
  }
}
