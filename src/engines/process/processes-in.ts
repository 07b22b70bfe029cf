import { readdir, readlink, realpath } from 'node:fs/promises'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from './ask-program.ts'

/** Returns the processes whose working directory is this folder: of Postgres, all processes of a server, whoever their parent is by now. */
export async function processesIn(folder: string): Promise<number[]> {
  const wanted = await realpath(folder).catch(() => undefined)
  if (wanted === undefined) return []
  if (process.platform !== 'linux') return fromLsof(askProgram('lsof', ['-a', '-d', 'cwd', '-Fpn']).stdout, wanted)
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    pids.map(async (pid) => ((await readlink(`/proc/${pid}/cwd`).catch(() => '')) === wanted ? [Number(pid)] : [])),
  )
  return found.flat()
}

/** Lines `p` with a process id, `f` with `cwd`, `n` with the folder. */
function fromLsof(output: string, folder: string): number[] {
  const records = output.split(/^p/m).slice(1)
  return records.flatMap((record) => (record.split('\n').includes(`n${folder}`) ? [Number.parseInt(record, 10)] : []))
}

const goneWithinMs = 10_000
const quitWithinMs = 1_000

/**
 * Ends all processes of a server, and resolves when none is left: first by SIGQUIT, with which a server of Postgres frees its shared memory
 * (and SIGCONT, in case they are stopped), soon after by SIGKILL.
 * @throws ENGINE_START_FAILED if some remain, since nothing may be started beside them
 */
export async function endAllIn(folder: string): Promise<void> {
  for (const signal of ['SIGQUIT', 'SIGCONT'] as const) await signalAllIn(folder, signal)
  const patientUntil = systemClock.ticks() + quitWithinMs
  while (systemClock.ticks() < patientUntil) {
    if ((await processesIn(folder)).length === 0) return
    await sleep(10)
  }
  await killAllIn(folder)
}

/**
 * Kills all processes of a server, and resolves when none is left.
 * @throws ENGINE_START_FAILED as above
 */
export async function killAllIn(folder: string): Promise<void> {
  const giveUpAt = systemClock.ticks() + goneWithinMs
  for (;;) {
    const pids = await signalAllIn(folder, 'SIGKILL')
    if (pids.length === 0) return
    if (systemClock.ticks() > giveUpAt) {
      throw new RungError(
        'ENGINE_START_FAILED',
        `Nothing is started on ${folder}, because processes there do not end although they were killed: ${pids.join(', ')}. They may wait for a disk.`,
      )
    }
    await sleep(5)
  }
}

async function signalAllIn(folder: string, signal: NodeJS.Signals): Promise<number[]> {
  const pids = await processesIn(folder)
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch {
      // it has ended
    }
  }
  return pids
}
