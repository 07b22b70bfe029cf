import { errorCodes, errorOf, isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { codeFrame, faultOf } from '../kernel/fault.ts'
import { plainLines } from '../kernel/plain-text.ts'
import { type Command, helpText, type Input, type Output, parseInput, present } from './command.ts'
import { ownPackage } from './own-package.ts'

/** Each command is loaded only when it is run: a start needs nothing of the others. */
const commands: Record<string, () => Promise<{ default: Command }>> = {
  start: () => import('./start.ts'),
  dev: () => import('./dev.ts'),
  up: () => import('./up.ts'),
  ps: () => import('./ps.ts'),
  logs: () => import('./logs.ts'),
  climb: () => import('./climb.ts'),
  scale: () => import('./scale.ts'),
  extract: () => import('./extract.ts'),
  restart: () => import('./restart.ts'),
  kill: () => import('./kill.ts'),
  chaos: () => import('./chaos.ts'),
  deploy: () => import('./deploy.ts'),
  deploys: () => import('./deploys.ts'),
  load: () => import('./load.ts'),
  plan: () => import('./plan.ts'),
  cost: () => import('./cost.ts'),
  advise: () => import('./advise.ts'),
  adr: () => import('./adr.ts'),
  ready: () => import('./ready.ts'),
  report: () => import('./report.ts'),
  prove: () => import('./prove.ts'),
  history: () => import('./history.ts'),
  stop: () => import('./stop.ts'),
  topology: () => import('./topology.ts'),
  settings: () => import('./settings.ts'),
  secret: () => import('./secret.ts'),
  certs: () => import('./certs.ts'),
  migrate: () => import('./migrate.ts'),
  jobs: () => import('./jobs.ts'),
  events: () => import('./events.ts'),
  cache: () => import('./cache.ts'),
  mail: () => import('./mail.ts'),
  files: () => import('./files.ts'),
  errors: () => import('./errors.ts'),
  doctor: () => import('./doctor.ts'),
  statements: () => import('./statements.ts'),
  record: () => import('./record.ts'),
  traces: () => import('./traces.ts'),
  profile: () => import('./profile.ts'),
  alerts: () => import('./alerts.ts'),
  incidents: () => import('./incidents.ts'),
  console: () => import('./console.ts'),
  backup: () => import('./backup.ts'),
  restore: () => import('./restore.ts'),
  staging: () => import('./staging.ts'),
  engines: () => import('./engines.ts'),
  test: () => import('./test.ts'),
  export: () => import('./export.ts'),
  new: () => import('./new.ts'),
}

export async function main(args: readonly string[], env: Input['env'], cwd: string, to: Output): Promise<number> {
  // What commands show has texts of visitors in it. The logs of an app are written elsewhere, and keep their colours.
  const out: Output = {
    ...to,
    line: (text = '') => to.line(plainLines(text)),
    note: (text) => to.note(plainLines(text)),
  }
  const [name, ...rest] = args
  const json = args.includes('--json')
  try {
    if (name === undefined || name === '--help' || name === 'help') {
      out.line(await overview())
      return 0
    }
    if (name === '--version') {
      out.line((await ownPackage()).version)
      return 0
    }
    const load = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (!load) throw new RungError('COMMAND_INVALID', `There is no command "${name}". See: rung --help`)
    const command = (await load()).default
    const { values, positionals } = parseInput(command, rest)
    if (values.help) {
      out.line(helpText(command))
      return 0
    }
    const input = { positionals, values: values as Input['values'], json, env, cwd, out }
    const outcome = await command.run(input)
    return typeof outcome === 'number' ? outcome : present(outcome, input)
  } catch (error) {
    report(error, json, env, out)
    if (process.connected) process.send!({ failed: isRungError(error) ? error.code : 'UNEXPECTED' }, () => {}) // to `rung dev`
    return 1
  }
}

function report(error: unknown, json: boolean, env: Input['env'], out: Output): void {
  const code = isRungError(error) ? error.code : 'UNEXPECTED'
  const facts = isRungError(error) ? error.facts : {}
  const { at = facts.at } = faultOf(error) // of this process, or reported by a process that it started
  if (json) {
    out.json({ error: { code, message: messageOf(error), ...(at !== undefined && { at }), ...facts } })
    return
  }
  const title = isRungError(error) ? errorCodes[error.code].title : 'An unexpected error'
  out.note(`\n${title} (${code})\n${messageOf(error)}`)
  const frame = typeof at === 'string' ? codeFrame(at) : undefined
  if (frame !== undefined) out.note(`\n${at}\n${frame}`)
  if (!isRungError(error) || env.RUNG_DEBUG) out.note(errorOf(error).stack ?? messageOf(error))
  if (isRungError(error) && error.cause && env.RUNG_DEBUG) {
    out.note(`caused by: ${errorOf(error.cause).stack ?? messageOf(error.cause)}`)
  }
}

async function overview(): Promise<string> {
  const all = await Promise.all(Object.values(commands).map(async (load) => (await load()).default))
  const width = Math.max(...all.map(({ name }) => name.length))
  return [
    'rung <command> [options]',
    '',
    'Write a backend once, start it in one process, climb by changing the topology.',
    '',
    'Commands:',
    ...all.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'rung <command> --help describes a command. Every command takes --json.',
  ].join('\n')
}
