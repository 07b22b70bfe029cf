import { readFileSync } from 'node:fs'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from './ask-program.ts'

/** How to start a program so that it does not run as root: with a wrapper before the command line, or as another user. */
export interface Launcher {
  prefix: readonly string[]
  uid?: number
  gid?: number
}

/** The user of a launcher, for `spawn`. */
export function identityOf({ uid, gid }: Launcher): { uid?: number; gid?: number } {
  return uid === undefined ? {} : { uid, gid: gid! }
}

export interface Launched {
  program: string
  /** An option with which it ends at once. */
  versionFlag?: string
  /** Its name in messages. */
  name: string
  /** An alternative, to follow the word "or". */
  advice: string
}

/**
 * No engine runs as root (Postgres refuses to). For root it is started in a user namespace (its files still belong to root, and a
 * 0700 home is no obstacle); where namespaces are forbidden, as an unprivileged user that can reach the program.
 * @throws ENGINE_START_FAILED if neither is possible
 */
export function findLauncher({ program, versionFlag = '--version', name, advice }: Launched): Launcher {
  if (process.getuid?.() !== 0) return { prefix: [] }
  const namespace = ['unshare', '--user', '--map-user=1000', '--map-group=1000']
  const probe = askProgram(namespace[0]!, [...namespace.slice(1), 'true'])
  if (probe.status === 0 || probe.signal !== null) return { prefix: namespace } // a Ctrl-C ended it, but it did start
  for (const user of ['postgres', 'nobody']) {
    const account = readAccount(user)
    if (account && askProgram(program, [versionFlag], account).status === 0) return { prefix: [], ...account }
  }
  throw new RungError(
    'ENGINE_START_FAILED',
    `${name} does not run as root, and neither a user namespace nor an unprivileged user is available here. Run as an ordinary user, or ${advice}.`,
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
    return undefined // no such file
  }
}
