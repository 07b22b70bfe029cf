import { errorCodes, errorOf, isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { codeFrame, faultOf } from '../kernel/fault.ts'
import { type Command, helpText, type Input, type Output, parseInput } from './command.ts'

/** Loaded by name only when asked for: `rung --help` must not load a database client. */
const commands: Record<string, () => Promise<{ default: Command }>> = {
  start: () => import('./start.ts'),
  dev: () => import('./dev.ts'),
  up: () => import('./up.ts'),
  ps: () => import('./ps.ts'),
  logs: () => import('./logs.ts'),
  stop: () => import('./stop.ts'),
  topology: () => import('./topology.ts'),
  migrate: () => import('./migrate.ts'),
  jobs: () => import('./jobs.ts'),
  events: () => import('./events.ts'),
  cache: () => import('./cache.ts'),
  doctor: () => import('./doctor.ts'),
  backup: () => import('./backup.ts'),
  restore: () => import('./restore.ts'),
  engines: () => import('./engines.ts'),
  test: () => import('./test.ts'),
  new: () => import('./new.ts'),
}

export async function main(args: readonly string[], env: Input['env'], cwd: string, out: Output): Promise<number> {
  const [name, ...rest] = args
  const json = args.includes('--json')
  try {
    if (name === undefined || name === '--help' || name === 'help') {
      out.line(await overview())
      return 0
    }
    if (name === '--version') {
      out.line(await version())
      return 0
    }
    const load = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (!load) throw new RungError('CONFIG_INVALID', `There is no command "${name}". See: rung --help`)
    const command = (await load()).default
    const { values, positionals } = parseInput(command, rest)
    if (values.help) {
      out.line(helpText(command))
      return 0
    }
    return await command.run({ positionals, values: values as Input['values'], json, env, cwd, out })
  } catch (error) {
    report(error, json, env, out)
    return 1
  }
}

function report(error: unknown, json: boolean, env: Input['env'], out: Output): void {
  const code = isRungError(error) ? error.code : 'UNEXPECTED'
  const facts = isRungError(error) ? error.facts : {}
  const { at = facts.at } = faultOf(error) // of this process, or as a process that it started has reported it
  if (json) {
    out.json({ error: { code, message: messageOf(error), ...(at !== undefined && { at }), ...facts } })
    return
  }
  const title = isRungError(error) ? errorCodes[error.code].title : 'An unexpected error'
  out.note(`\n${title} (${code})\n${messageOf(error)}`)
  const frame = typeof at === 'string' ? codeFrame(at) : undefined
  if (frame !== undefined) out.note(`\n${at}\n${frame}`)
  if (!isRungError(error) || env.RUNG_DEBUG) out.note(stackOf(error))
  const cause = isRungError(error) ? error.cause : undefined
  if (cause && env.RUNG_DEBUG) out.note(`caused by: ${stackOf(cause)}`)
}

function stackOf(thrown: unknown): string {
  const { stack, message } = errorOf(thrown)
  return stack ?? message
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
    'rung <command> --help describes each of them. Every command takes --json.',
  ].join('\n')
}

async function version(): Promise<string> {
  const { readFile } = await import('node:fs/promises')
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
