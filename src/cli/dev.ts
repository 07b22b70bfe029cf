import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseEnv } from 'node:util'
import { after } from '../kernel/clock.ts'
import { findApp } from '../runtime/load-app.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import { type Command, settingOptions } from './command.ts'
import { isWithin, watchSources } from './watch-sources.ts'

/** A restart waits this long for requests in hand; then a second signal ends the app, and SIGKILL one that hangs. */
const politeMsMax = 3_000
const endMsMax = 2_000

/** `.env` is watched like a source, and read at each start of the app. */
function envOf(folder: string): NodeJS.Dict<string> {
  const file = path.join(folder, '.env')
  return existsSync(file) ? parseEnv(readFileSync(file, 'utf8')) : {}
}

const dev: Command = {
  name: 'dev',
  summary: 'start the app, and restart it at every change',
  usage: 'rung dev [app-file] [options]',
  wordsMax: 1,
  help: [
    'Like "rung start" with NODE_ENV=development: answers and the log show where an error',
    'was thrown; module borders and calls are checked. Restarts when a source file below',
    'this folder changes. Reads .env of this folder; the environment wins over it. All',
    'settings: rung start --help.',
  ].join('\n'),
  examples: ['rung dev', 'PORT=8080 rung dev src/app.ts'],
  options: settingOptions('http.port', 'log.format', 'process.dataDir'),
  run({ positionals, values, json, env, cwd, out }) {
    const sources = { env: { ...envOf(cwd), ...env }, options: values }
    const ownFolders = [settings.process.dataDir, settings.backup.dir].map((one) => readSetting(one, sources))
    const options = ['port', 'log', 'data'].flatMap((name) =>
      typeof values[name] === 'string' ? [`--${name}`, values[name]] : [],
    )
    const asJson = json ? ['--json'] : []
    const args = [...process.execArgv, process.argv[1]!, 'start', ...positionals, ...options, ...asJson]
    const appFile = positionals[0] ? path.resolve(cwd, positionals[0]) : findApp(undefined, cwd)
    const appDir = appFile === undefined ? cwd : path.dirname(appFile)
    const ended = Promise.withResolvers<number>()
    let child: ChildProcess | undefined
    let ending = false
    let restarting = false
    let changedAgain = false

    function launch(): void {
      const started = spawn(process.execPath, args, {
        cwd,
        env: { NODE_ENV: 'development', ...envOf(cwd), ...env },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        detached: true, // Ctrl-C reaches this process, which passes it on
      })
      child = started
      let isHeld = false
      started.on('message', ({ failed }: { failed?: string }) => {
        isHeld = failed === 'DATA_DIR_IN_USE'
      })
      started.once('exit', () => {
        child = undefined
      })
      // After its last message.
      started.once('close', (code) => {
        if (ending || started.killed) return
        if (code === 0)
          void end() // its output is no longer read
        else if (isHeld)
          void end(1) // no change of the sources helps
        else out.note('\nThe app ended. Waiting for a change …')
      })
    }

    async function stopChild(): Promise<void> {
      const running = child
      if (!running) return
      const exited = new Promise((resolve) => running.once('exit', resolve))
      running.kill('SIGTERM')
      const cancels = [
        after(politeMsMax, () => void running.kill('SIGTERM')),
        after(politeMsMax + endMsMax, () => void running.kill('SIGKILL')),
      ]
      await exited
      for (const cancel of cancels) cancel()
    }

    async function restart(): Promise<void> {
      changedAgain = true
      if (restarting) return
      restarting = true
      while (changedAgain && !ending) {
        changedAgain = false
        await stopChild()
        if (!ending) launch()
      }
      restarting = false
    }

    async function end(code = 0): Promise<void> {
      if (ending) return void child?.kill('SIGTERM') // the app's second signal ends it at once
      ending = true
      stopWatching()
      await stopChild()
      ended.resolve(code)
    }

    const stopWatching = watchSources({
      roots: isWithin(appDir, cwd) ? [cwd] : [cwd, appDir],
      // Files that try the app out from outside are no part of it: to write one must not stop what it is for.
      except: [...ownFolders, 'load.ts', 'prove.ts'].flatMap((one) =>
        one === undefined ? [] : [path.resolve(cwd, one)],
      ),
      onChange([first, ...others]) {
        const more = others.length === 0 ? '' : ` and ${others.length} more`
        out.note(`\n${path.relative(cwd, first!)}${more} changed, restarting …`)
        void restart()
      },
    })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end())
    launch()
    return ended.promise
  },
}
export default dev
