import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { familyOf } from '../engines/process/cpu.ts'
import { findHierarchy, groupsOf, type Hierarchy, limitFiles, type Resource } from '../engines/process/cpu-quota.ts'
import { identify, lives } from '../engines/process/pid-file.ts'
import { sleep } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { formatBytes, type Size, toBytes } from '../kernel/units.ts'
import { type Fault, kinds, untilSeen } from './fault.ts'
import { processOf } from './parts.ts'

/** Faults of resources: the running processes of a part move into a control group of Linux that has less. */

const cpu = squeeze({
  name: 'squeeze-cpu',
  resource: 'cpu',
  does: 'gives a part little CPU time, by a control group',
  shows: 'It answers late, and requests go to others; with too little it counts as hung.',
  strength: { default: '0.05', help: 'CPU cores' },
  limit(version, strength) {
    const cores = Number(strength)
    if (!(cores > 0 && cores <= 64)) throw invalid(strength, 'a number of CPU cores, such as 0.1')
    return { files: limitFiles(version, cores), words: `${cores} cores` }
  },
})

const memory = squeeze({
  name: 'squeeze-memory',
  resource: 'memory',
  does: 'lets a part take little memory beside what it has, by a control group',
  shows: 'A part that needs more is ended by the kernel, and restarted by rung up.',
  strength: { default: '16MiB', help: 'memory' },
  limit(version, strength) {
    // What a process has already stays with the group that it came from.
    const bytes = toBytes(strength as Size)
    return {
      files: [[version === 2 ? 'memory.max' : 'memory.limit_in_bytes', String(bytes)]],
      words: `${formatBytes(bytes)} more`,
    }
  },
})

export const squeezes: readonly Fault[] = [cpu, memory]

interface Squeeze extends Pick<Fault, 'name' | 'does' | 'shows'> {
  resource: Resource
  strength: NonNullable<Fault['strength']>
  limit(
    version: Hierarchy['version'],
    strength: string,
  ): { files: readonly (readonly [file: string, value: string])[]; words: string }
}

function squeeze({ resource, limit, ...fault }: Squeeze): Fault {
  return {
    ...fault,
    on: kinds,
    lasts: true,
    problem: () =>
      findHierarchy(resource) ? undefined : 'It needs control groups that this user may make: Linux, and root.',
    async inject({ part, strength }, undoBy) {
      const found = findHierarchy(resource)!
      const main = processOf(part)
      const { files, words } = limit(found.version, strength)
      const group = path.join(found.dir, `rung-${fault.name}.${main.pid}`)
      const home = groupsOf(main.pid, resource)[0]?.dir ?? found.dir
      await undoBy({ how: 'leave-group', group, home })
      mkdirSync(group)
      for (const [file, value] of files) writeFileSync(path.join(group, file), value)
      const outside = () =>
        familyOf(main.pid)
          .filter((pid) => !processesOf(group).includes(pid))
          .filter((pid) => lives(identify(pid)))
      await untilSeen(() => {
        for (const pid of outside()) enter(group, pid)
        processOf(part) // it must live
        return outside().length === 0 && files.every(([file, value]) => isSet(path.join(group, file), value))
      }, `${part.name} could not be moved into the control group ${group}.`)
      return { did: `${words} for process ${main.pid}` }
    },
  }
}

const emptyTries = 40
const emptyEveryMs = 25

/** Moves all processes of a group back to where they were, and removes it. */
export async function leaveGroup(group: string, home: string): Promise<void> {
  for (let tries = 1; existsSync(group); tries += 1) {
    for (const pid of processesOf(group)) enter(home, pid)
    try {
      return rmdirSync(group)
    } catch (error) {
      if (tries > emptyTries) throw error
      await sleep(emptyEveryMs) // a process of it is just ending
    }
  }
}

function enter(group: string, pid: number): void {
  try {
    writeFileSync(path.join(group, 'cgroup.procs'), String(pid))
  } catch {
    // it has ended
  }
}

function processesOf(group: string): number[] {
  return readFileSync(path.join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number)
}

/** The kernel rounds memory down to pages. */
function isSet(file: string, wanted: string): boolean {
  const text = readFileSync(file, 'utf8').trim()
  return text === wanted || Math.abs(Number(text) - Number(wanted)) < 65_536
}

function invalid(strength: string, what: string): RungError {
  return new RungError('COMMAND_INVALID', `"${strength}" is not ${what}. See: rung chaos list`)
}
