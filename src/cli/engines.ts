import { nginxPackages } from '../engines/nginx/recipe.ts'
import { installedNginx, nginxProblem } from '../engines/nginx/server.ts'
import { installedPostgres } from '../engines/postgres/binaries.ts'
import { canInstall, installDebian, type Packages } from '../engines/process/debian.ts'
import { redisPackages } from '../engines/redis/recipe.ts'
import { installedRedis, redisProblem } from '../engines/redis/server.ts'
import { RungError } from '../kernel/errors.ts'
import { type EngineName, engineFrom, engineNames } from '../topology/engines.ts'
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

interface State {
  engine: EngineName
  from: string
  product: string
  version: string | null
  path: string | null
  /** Why it cannot be used; null when it can. */
  problem: string | null
}

const look: Record<EngineName, () => Omit<State, 'engine' | 'from'>> = {
  postgres() {
    const found = installedPostgres()
    return facts('Postgres', found, found ? undefined : 'Postgres was left out of the installation')
  },
  redis() {
    const found = installedRedis()
    return facts(found?.product ?? 'Redis', found, redisProblem(found))
  },
  nginx() {
    const found = installedNginx()
    return facts(found?.product ?? 'nginx', found, nginxProblem(found))
  },
}

function facts(product: string, found: { version: string; path: string } | undefined, problem: string | undefined) {
  return { product, version: found?.version ?? null, path: found?.path ?? null, problem: problem ?? null }
}

function stateOf(engine: EngineName): State {
  return { engine, from: engineFrom[engine], ...look[engine]() }
}

function list({ json, out }: Input): number {
  const states = engineNames.map(stateOf)
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
      engine === 'postgres' && path ? 'comes with Rung' : (path ?? ''),
    )
  const bad = states.filter(({ problem }) => problem !== null)
  if (bad.length > 0) out.line()
  for (const { problem } of bad) out.line(shortened(`${problem}.`, 80))
  const names = bad.map(({ engine }) => engine).filter(isOutside)
  if (names.length > 0) out.line(`\nTo install: rung engines install ${names.join(' ')}`)
  return 0
}

/** The end of a path tells more than its beginning. */
function shortened(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(1 - most)}`
}

const packages: Record<Exclude<EngineName, 'postgres'>, Packages> = { redis: redisPackages, nginx: nginxPackages }

function isOutside(name: string): name is Exclude<EngineName, 'postgres'> {
  return Object.hasOwn(packages, name)
}

async function install({ json, out }: Input, names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => !isOutside(name))
  if (unknown !== undefined) {
    const which = unknown === 'postgres' ? 'Postgres comes with Rung itself' : `There is no engine "${unknown}"`
    throw new RungError('CONFIG_INVALID', `${which}. Can be installed: ${Object.keys(packages).join(', ')}.`)
  }
  const wanted = (names.length > 0 ? names : Object.keys(packages)).filter(isOutside)
  const missing = wanted.filter((name) => stateOf(name).problem !== null)
  if (missing.length > 0) {
    const needed = missing.map((name) => packages[name])
    if (!canInstall()) throw byHand(missing, needed)
    out.note(`installing ${missing.join(', ')}`)
    await installDebian(needed, out.note)
  }
  const states = wanted.map(stateOf)
  const still = states.find(({ problem }) => problem !== null)
  if (still) throw new RungError('ENGINE_MISSING', `${still.problem}, also after the installation.`)
  if (json) out.json({ installed: missing, engines: states })
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
