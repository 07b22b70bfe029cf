import { type ChildProcess, spawn } from 'node:child_process'
import { type FSWatcher, readdirSync, statSync, watch } from 'node:fs'
import path from 'node:path'
import { after } from '../kernel/clock.ts'
import type { Command } from './command.ts'

/** Folders whose changes mean nothing to the app. */
const ignored = new Set(['node_modules', '.rung', '.git', 'dist', 'coverage'])
/** What an app is made of. A log that it writes beside itself must not start it again. */
const sources = /\.([cm]?[jt]sx?|json|sql|env|html|css)$/
/** An editor saves in several steps; one restart is enough for all of them. */
const quietMs = 80

const dev: Command = {
  name: 'dev',
  summary: 'start the app and restart it at every change',
  usage: 'rung dev [app-file] [options]',
  help: [
    'Like "rung start" with NODE_ENV=development: faults are shown to clients, module',
    'borders and calls are checked. Restarts when a file below this folder changes.',
  ].join('\n'),
  examples: ['rung dev', 'PORT=8080 rung dev src/app.ts'],
  options: { port: { type: 'string', value: 'number', help: 'Port, instead of PORT.' } },
  run({ positionals, values, env, cwd, out }) {
    const args = ['start', ...positionals, ...(typeof values.port === 'string' ? ['--port', values.port] : [])]
    let child: ChildProcess | undefined
    let forget = () => {}
    let ending = false

    function launch(): void {
      const started = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...args], {
        cwd,
        env: { ...env, NODE_ENV: env.NODE_ENV ?? 'development' },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        detached: true, // Ctrl-C reaches this process, which passes it on
      })
      child = started
      started.once('exit', (code) => {
        child = undefined
        if (!ending && !started.killed && code !== 0) out.note('\nThe app ended. Waiting for a change …')
      })
    }

    async function stopChild(): Promise<void> {
      const running = child
      if (!running) return
      const gone = new Promise((resolve) => running.once('exit', resolve))
      running.kill('SIGTERM')
      await gone
    }

    return new Promise((resolve) => {
      let restarting: Promise<void> = Promise.resolve()
      const stopWatching = watchFolder(cwd, (file) => {
        forget()
        forget = after(quietMs, () => {
          restarting = restarting.then(async () => {
            if (ending) return
            out.note(`\n${file} changed, starting again …`)
            await stopChild()
            if (!ending) launch()
          })
        })
      })
      async function end(): Promise<void> {
        if (ending) {
          child?.kill('SIGTERM') // the app's second signal: it ends at once
          return
        }
        ending = true
        stopWatching()
        await stopChild()
        resolve(0)
      }
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end)
      launch()
    })
  },
}

/**
 * Tells of changes below `root`. Each folder of the first level is watched by itself, so that the large ones which mean
 * nothing (packages, the database) are not walked at all.
 */
function watchFolder(root: string, onChange: (file: string) => void): () => void {
  const watchers = new Map<string, FSWatcher>()
  function add(name: string): void {
    const folder = path.join(root, name)
    if (watchers.has(name) || ignored.has(name) || !statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return
    const watcher = watch(folder, { recursive: true }, (_event, file) => tell(path.join(name, file ?? '')))
    watcher.on('error', () => watchers.delete(name)) // the folder is gone
    watchers.set(name, watcher)
  }
  function tell(file: string): void {
    if (sources.test(file) && !file.split(path.sep).some((part) => ignored.has(part))) onChange(file)
  }
  const top = watch(root, (_event, name) => {
    if (name === null) return
    add(name)
    tell(name)
  })
  top.on('error', () => {})
  for (const name of readdirSync(root)) add(name)
  return () => {
    top.close()
    for (const watcher of watchers.values()) watcher.close()
  }
}

export default dev
