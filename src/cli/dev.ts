import { type ChildProcess, spawn } from 'node:child_process'
import { type FSWatcher, watch } from 'node:fs'
import path from 'node:path'
import { after } from '../kernel/clock.ts'
import type { Command } from './command.ts'

/** Folders whose changes mean nothing to the app. */
const ignored = new Set(['node_modules', '.rung', '.git', 'dist', 'coverage'])
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
    let watcher: FSWatcher | undefined

    function launch(): void {
      const started = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...args], {
        cwd,
        env: { ...env, NODE_ENV: env.NODE_ENV ?? 'development' },
        stdio: ['ignore', 'inherit', 'inherit'],
        detached: true, // Ctrl-C reaches this process, which passes it on
      })
      child = started
      started.once('exit', (code) => {
        child = undefined
        if (!ending && code !== 0) out.note('\nThe app ended. Waiting for a change …')
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
      watcher = watch(cwd, { recursive: true }, (_event, file) => {
        if (file === null || file.split(path.sep).some((part) => ignored.has(part)) || /~$|\.swp$/.test(file)) return
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
        if (ending) return
        ending = true
        watcher?.close()
        await stopChild()
        resolve(0)
      }
      process.on('SIGINT', end)
      process.on('SIGTERM', end)
      launch()
    })
  },
}
export default dev
