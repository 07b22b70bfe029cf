import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { guardBy } from '../chaos/guard.ts'
import { writeMarker } from '../engines/postgres/data-dir.ts'
import { fakeClocks, removeLeftovers } from '../engines/process/fake-clock.ts'
import { RungError } from '../kernel/errors.ts'

export interface ProofFleet {
  readonly url: string
  /** Resolves when nothing of it runs any more. */
  stop(): Promise<void>
}

export interface FleetOptions {
  /** The command line of `rung`. */
  rungCommand: readonly string[]
  /** Default: what the settings say. */
  rung: string | undefined
  app: string
  dataDir: string
  cwd: string
  env: Readonly<Record<string, string | undefined>>
  /** Ends a start that takes too long for the one who waits. */
  over: AbortSignal
}

/**
 * Starts a fleet of its own for a proof, in a data directory of its own, which is isolated: what the environment and `rung.config.ts` say of
 * databases, buckets and mail servers is not used. It ends with this process, however that ends.
 * @throws PROOF_FAILED, with what the fleet has said
 */
export async function startFleet({
  rungCommand,
  rung,
  app,
  dataDir,
  cwd,
  env,
  over,
}: FleetOptions): Promise<ProofFleet> {
  const [program, ...args] = rungCommand
  await writeMarker(dataDir, { isolated: true })
  const callOff = guardBy([...rungCommand, 'stop', '--data', dataDir])
  const child = spawn(
    program!,
    [...args, 'up', ...(rung === undefined ? [] : [rung]), app, '--port', '0', '--data', dataDir, '--json'],
    {
      cwd,
      env: { ...env, ...fakeClocks, NODE_ENV: 'test', RUNG_DATA: dataDir },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // Ctrl-C is for this process, which stops the fleet when it has undone the faults
    },
  )
  const ended = once(child, 'close')
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
    callOff()
    removeLeftovers()
  }
  let [told, complaints] = ['', '']
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = `${complaints}${text}`.slice(-2_000)
  })
  const url = await new Promise<string | undefined>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      told += text
      const started = documentIn(told)
      if (started?.url !== undefined) resolve(started.url)
    })
    ended.then(
      () => resolve(undefined),
      () => resolve(undefined),
    )
    over.addEventListener('abort', () => resolve(undefined))
  })
  if (url !== undefined) return { url, stop }
  await stop()
  const failed = documentIn(told)?.error?.message ?? complaints.trim()
  throw new RungError('PROOF_FAILED', over.aborted ? 'The proof was ended.' : `The fleet did not start: ${failed}`)
}

/** One document, which may still be incomplete. */
function documentIn(text: string): { url?: string; error?: { message: string } } | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
