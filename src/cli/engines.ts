import { canInstall, installDebian, type Packages } from '../engines/process/debian.ts'
import { type EngineView, engineView, installableEngines, localEngines } from '../fleet/engine-states.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, type Input, type Result, result, unknownVerb } from './command.ts'
import { cutStart, tableLines } from './table.ts'

const command: Command = {
  name: 'engines',
  summary: 'list or install the programs that the rungs need',
  usage: 'rung engines [list | install [names]] [options]',
  help: [
    'Lists the programs that topologies need: the first rung that uses each, the',
    'installed version, and where it is. Postgres comes with Rung itself.',
    '',
    'install puts the missing ones (or those named) on the machine: as root on Debian',
    'through apt, without leaving a service running. Elsewhere it prints the commands',
    'for you to run, and exits with 1.',
  ].join('\n'),
  examples: ['rung engines', 'rung engines --json', 'sudo rung engines install redis nginx'],
  options: {},
  async run(input) {
    const [verb, ...names] = input.positionals
    if (verb === 'install') return install(input, names)
    if (verb !== undefined && verb !== 'list') return unknownVerb(command, verb)
    if (names[0] !== undefined) return unknownVerb(command, names[0])
    const engines = localEngines.map(engineView)
    return result({ engines }, () => print(engines, input.out))
  },
}
export default command

function isInstallable(name: string): boolean {
  return installableEngines.some((engine) => engine.name === name)
}

function print(engines: readonly EngineView[], out: Input['out']): void {
  const rows = engines.map(({ engine, from, product, version, path }) => {
    const where = path !== null && !isInstallable(engine) ? 'comes with Rung' : (path ?? '')
    return [engine, from, version === null ? 'missing' : `${product} ${version}`, cutStart(where, 43)]
  })
  for (const line of tableLines([9, 4, 17, 43], [['engine', 'from', 'version', 'where'], ...rows])) out.line(line)
  const bad = engines.filter(({ problem }) => problem !== null)
  if (bad.length > 0) out.line()
  for (const { problem } of bad) out.line(cutStart(`${problem}.`, 80))
  const names = bad.map(({ engine }) => engine).filter(isInstallable)
  if (names.length > 0) out.line(`\nTo install: rung engines install ${names.join(' ')}`)
}

async function install({ out }: Input, names: readonly string[]): Promise<Result> {
  const unknown = names.find((name) => !isInstallable(name))
  if (unknown !== undefined) {
    const comesWithRung = localEngines.find(({ name }) => name === unknown)
    const which = comesWithRung ? `${comesWithRung.product} comes with Rung itself` : `There is no engine "${unknown}"`
    const possible = installableEngines.map(({ name }) => name).join(', ')
    throw new RungError('COMMAND_INVALID', `${which}. Can be installed: ${possible}.`)
  }
  const wanted = installableEngines.filter(({ name }) => names.length === 0 || names.includes(name))
  const missing = wanted.filter((engine) => engineView(engine).problem !== null)
  const installed = missing.map(({ name }) => name)
  if (missing.length > 0) {
    const packages = missing.map((engine) => engine.packages!)
    if (!canInstall()) throw installYourself(installed, packages)
    out.note(`installing ${installed.join(', ')}`)
    await installDebian(packages, out.note)
  }
  const engines = wanted.map(engineView)
  const broken = engines.find(({ problem }) => problem !== null)
  if (broken) throw new RungError('ENGINE_MISSING', `${broken.problem}, even after the installation.`)
  return result({ installed, engines }, () => {
    for (const { product, version, path } of engines) out.line(`${product} ${version}  ${path}`)
  })
}

function installYourself(missing: readonly string[], packages: readonly Packages[]): RungError {
  const commands = {
    debian: `sudo apt-get install ${packages.flatMap(({ debian }) => debian).join(' ')}`,
    brew: `brew install ${packages.flatMap(({ brew }) => brew).join(' ')}`,
    docker: packages.map(({ dockerImage }) => `docker pull ${dockerImage}`).join(' && '),
  }
  const lines = Object.entries(commands).map(([system, text]) => `  ${system.padEnd(7)} ${text}`)
  return new RungError(
    'ENGINE_MISSING',
    `Missing: ${missing.join(', ')}. Rung installs only as root on Debian. Run one of:\n${lines.join('\n')}`,
    { facts: { missing, commands } },
  )
}
