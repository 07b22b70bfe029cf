import { type SpawnSyncOptions, spawnSync } from 'node:child_process'
import { RungError } from '../../kernel/errors.ts'

const answerMsMax = 10_000

export interface ProgramAnswer {
  /** `null` if it could not be run, or was ended by a signal. */
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/**
 * Runs a program that answers at once, and waits for its end.
 * @throws ENGINE_START_FAILED if it does not end in time (10 s unless given)
 */
export function askProgram(
  program: string,
  args: readonly string[],
  options: Pick<SpawnSyncOptions, 'uid' | 'gid'> & { timeoutMs?: number } = {},
): ProgramAnswer {
  const { timeoutMs = answerMsMax, ...identity } = options
  const settings = { ...identity, encoding: 'utf8', timeout: timeoutMs, killSignal: 'SIGKILL' } as const
  const { status, signal, stdout, stderr, error } = spawnSync(program, args, settings)
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT') {
    throw new RungError(
      'ENGINE_START_FAILED',
      `${[program, ...args].join(' ')} has not ended within ${timeoutMs / 1000} s. Run it by hand to see what it waits for.`,
    )
  }
  return { status, signal, stdout: stdout ?? '', stderr: stderr ?? '' }
}
