import { canInstall, installDebian, type Packages } from '../engines/process/debian.ts'
import type { Engine, EngineState } from '../engines/process/engine.ts'
import { engines } from '../fleet/engines.ts'
import { RungError } from '../kernel/errors.ts'
import { rungNames, rungs } from '../topology/catalog.ts'
import type { Command, Input } from './command.ts'

const command: Command = {
  name: 'engines',
  summary: 'what the rungs need on this machine, and is it there',
  usage: 'rung engines [install [names]] [options]',
  help: [
    'Lists the programs that topologies need: from which rung on, which version is',
    'installed, and where. Postgres comes with Rung itself.',
    '',
    'install puts the missing ones (or those named) on the machine: as root on Debian',
    'through apt, without leaving a service running; elsewhere it prints the commands',
    'for you to run, and ends with 1.',
  ].join('\n'),
  examples: ['rung engines', 'rung engines --json', 'sudo rung engines install redis nginx'],
  options: {},
  async run(input) {
    const [verb, ...names] = input.positionals
    if (verb === undefined) return list(input)
    if (verb === 'install') return install(input, names)
    throw new RungError('CONFIG_INVALID', `There is no "${verb}" here. See: rung engines --help`)
  },
}
export default command

interface Listed extends EngineState {
  engine: string
  /** The first rung that uses it. */
  from: string
}

/** Those that run on this machine, from the inside outwards. */
const onMachine = engines.filter(({ look }) => look !== undefined).reverse()
const installable = onMachine.filter(({ packages }) => packages !== undefined)

function stateOf(engine: Engine): Listed {
  const from = rungNames.find((name) => engine.use(rungs[name]) === 'managed') ?? '-'
  return { engine: engine.name, from, ...engine.look!() }
}

function list({ json, out }: Input): number {
  const states = onMachine.map(stateOf)
  if (json) {
    out.json({ engines: states })
    return 0
  }
  const row = (...[engine, from, version, where]: [string, string, string, string]) =>
    out.line(`${engine.padEnd(10)}${from.padEnd(6)}${version.padEnd(18)}${shortened(where, 46)}`.trimEnd())
  row('engine', 'from', 'version', 'where')
  for (const { engine, from, product, version, path } of states)
    row(
      engine,
      from,
      version === null ? 'missing' : `${product} ${version}`,
      path !== null && !isInstallable(engine) ? 'comes with Rung' : (path ?? ''),
    )
  const bad = states.filter(({ problem }) => problem !== null)
  if (bad.length > 0) out.line()
  for (const { problem } of bad) out.line(shortened(`${problem}.`, 80))
  const names = bad.map(({ engine }) => engine).filter(isInstallable)
  if (names.length > 0) out.line(`\nTo install: rung engines install ${names.join(' ')}`)
  return 0
}

/** Shortened at its beginning: the end of a path says more. */
function shortened(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(1 - most)}`
}

function isInstallable(name: string): boolean {
  return installable.some((engine) => engine.name === name)
}

async function install({ json, out }: Input, names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => !isInstallable(name))
  if (unknown !== undefined) {
    const comesWithRung = onMachine.find(({ name }) => name === unknown)
    const which = comesWithRung ? `${comesWithRung.product} comes with Rung itself` : `There is no engine "${unknown}"`
    const possible = installable.map(({ name }) => name).join(', ')
    throw new RungError('CONFIG_INVALID', `${which}. Can be installed: ${possible}.`)
  }
  const wanted = installable.filter(({ name }) => names.length === 0 || names.includes(name))
  const missing = wanted.filter((engine) => stateOf(engine).problem !== null)
  const missingNames = missing.map(({ name }) => name)
  if (missing.length > 0) {
    const needed = missing.map(({ packages }) => packages!)
    if (!canInstall()) throw byHand(missingNames, needed)
    out.note(`installing ${missingNames.join(', ')}`)
    await installDebian(needed, out.note)
  }
  const states = wanted.map(stateOf)
  const still = states.find(({ problem }) => problem !== null)
  if (still) throw new RungError('ENGINE_MISSING', `${still.problem}, also after the installation.`)
  if (json) out.json({ installed: missingNames, engines: states })
  else for (const { product, version, path } of states) out.line(`${product} ${version}  ${path}`)
  return 0
}

function byHand(names: readonly string[], needed: readonly Packages[]): RungError {
  const commands = {
    debian: `sudo apt-get install ${needed.flatMap(({ debian }) => debian).join(' ')}`,
    brew: `brew install ${needed.flatMap(({ brew }) => brew).join(' ')}`,
    docker: needed.map(({ dockerImage }) => `docker pull ${dockerImage}`).join(' && '),
  }
  const lines = Object.entries(commands).map(([system, text]) => `  ${system.padEnd(7)} ${text}`)
  return new RungError(
    'ENGINE_MISSING',
    `Missing: ${names.join(', ')}. Rung installs only as root on Debian. Run one of:\n${lines.join('\n')}`,
    { facts: { missing: names, commands } },
  )
}
