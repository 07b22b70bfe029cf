import path from 'node:path'
import { memberFiles } from '../engines/postgres/members.ts'
import { readPidFile } from '../engines/postgres/server.ts'
import { familyOf } from '../engines/process/cpu.ts'
import { commandOf } from '../engines/process/is-running.ts'
import { identify, isStopped, type Known, lives, serverIn } from '../engines/process/pid-file.ts'
import { sleep } from '../kernel/clock.ts'
import { type Fault, kinds, type Target, untilSeen } from './fault.ts'
import { fleetParts, processOf } from './parts.ts'

/** Faults of processes: they end, or hang. */

const kill: Fault = {
  name: 'kill',
  does: 'ends all processes of a part at once, as kill -9 does',
  shows: 'rung up restarts it. A primary with replicas is replaced by one of them.',
  on: kinds,
  lasts: false,
  async inject({ part }) {
    const killed = await killFamily(processOf(part), part.name)
    return { did: `killed ${inWords(killed)}` }
  },
}

const stop: Fault = {
  name: 'stop',
  does: 'keeps a part down: it is killed again whenever rung up restarts it',
  shows: 'The app goes on without it, or answers 503. Stop a zone to try out its loss.',
  on: kinds,
  lasts: true,
  async inject(target) {
    const { part } = target
    const killed = await killFamily(processOf(part), part.name)
    const ending = new AbortController()
    const keeping = keepDown(target, ending.signal).catch(() => {}) // it ends by its signal
    return {
      did: `killed ${inWords(killed)}, and kills it again`,
      async release() {
        ending.abort()
        await keeping
      },
    }
  },
}

const freeze: Fault = {
  name: 'freeze',
  does: 'stops all processes of a part (SIGSTOP): they hang, and hold all that they have',
  shows: 'Time-outs. rung up restarts a part that hangs for too long (RUNG_UNRESPONSIVE_MS).',
  on: kinds,
  lasts: true,
  async inject({ part }, undoBy) {
    const main = processOf(part)
    await undoBy({ how: 'resume', processes: familyOf(main.pid).map(identify) })
    send(main.pid, 'SIGSTOP')
    await untilSeen(() => isStopped(main.pid), `${part.name} was told to stop, and goes on.`)
    // It makes no more processes now.
    const family = familyOf(main.pid).map(identify)
    for (const { pid } of family) send(pid, 'SIGSTOP')
    const isFrozen = (one: Known) => isStopped(one.pid) || !lives(one)
    await untilSeen(() => family.every(isFrozen), `Processes of ${part.name} were told to stop, and go on.`)
    return { did: `froze ${inWords(family)}` }
  },
}

export const processFaults: readonly Fault[] = [kill, stop, freeze]

/** Lets processes go on, and those that they have made. */
export function resume(processes: readonly Known[]): void {
  for (const one of processes.filter(lives)) for (const pid of familyOf(one.pid)) send(pid, 'SIGCONT')
}

async function killFamily(main: Known, name: string): Promise<Known[]> {
  const family = familyOf(main.pid).map(identify)
  for (const { pid } of family) send(pid, 'SIGKILL')
  await untilSeen(() => !family.some(lives), `Processes of ${name} were killed, and still run.`)
  return family
}

const lookEveryMs = 20

async function keepDown({ part, dataDir }: Target, over: AbortSignal): Promise<void> {
  for (;;) {
    await sleep(lookEveryMs, over)
    const found = await startedProcess(part.name, dataDir)
    if (found && !over.aborted) await killFamily(found, part.name).catch(() => {}) // it is tried again
  }
}

/** Finds a process of a part from its first moment on, before it answers. */
async function startedProcess(name: string, dataDir: string): Promise<Known | undefined> {
  const part = (await fleetParts(dataDir)).find((one) => one.name === name)
  if (part?.kind !== 'primary' && part?.kind !== 'replica') return part && serverIn(path.dirname(part.log))
  const { data } = memberFiles(dataDir, name)
  const file = await readPidFile(data)
  // The file outlives its server, and another process may have the number by now.
  return file && commandOf(file.pid).includes(data) ? identify(file.pid) : undefined
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it has ended
  }
}

function inWords([main, ...others]: readonly Known[]): string {
  return `process ${main!.pid}${others.length > 0 ? ` and ${others.length} of its own` : ''}`
}
