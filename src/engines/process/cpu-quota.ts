import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf } from '../../kernel/errors.ts'
import { askProgram } from './ask-program.ts'
import type { Launcher } from './launcher.ts'

/**
 * Limits the CPU time of single processes by control groups of Linux, version 2 or 1: each process is started in a group of its
 * own. Where that is not possible (another system, or no right to make groups), the processes run without a limit.
 */
export interface CpuQuota {
  /** Why no limit is in force, as a sentence; `undefined` if it is. */
  readonly problem: string | undefined
  /** Returns how a process is started so that it is limited from its first instruction. */
  launcher(name: string): Launcher
  /** Removes the group of a process that has ended. */
  release(name: string): void
  /** Removes all groups of this owner. */
  close(): Promise<void>
}

export type Resource = 'cpu' | 'memory'

/** Where groups are made, and how they are limited. */
export interface Hierarchy {
  readonly version: 1 | 2
  readonly dir: string
}

const allPrefix = 'rung-'
/** An empty group of another owner may be one whose process is just being started. */
const leftAfterMs = 60_000
const removeTries = 20
const removeEveryMs = 50

/**
 * Opens the quota of an owner, and removes the groups that earlier runs left behind, also those of other owners who may never come back.
 * @param owner a word of its own for each data directory
 * @param cores for each process; without it there is no limit, and none is missed
 */
export function openCpuQuota(owner: string, cores: number | undefined, found = findHierarchy()): CpuQuota {
  const prefix = `${allPrefix}${owner}.`
  if (found) removeOld(found.dir, prefix)
  const problem = cores === undefined ? undefined : problemOf(found, prefix, cores)
  const isLimited = cores !== undefined && problem === undefined

  return {
    problem,
    launcher(name) {
      if (!isLimited) return { prefix: [] }
      const file = makeGroup(found!, prefix + name, cores)
      // The shell enters the group and becomes the process. If it cannot, its log says so, and the process runs anyway.
      return { prefix: ['/bin/sh', '-c', 'echo $$ > "$0"; exec "$@"', file] }
    },
    release(name) {
      if (isLimited) removeGroup(found!.dir, prefix + name)
    },
    async close() {
      if (!isLimited) return
      for (let tries = 1; groupsIn(found!.dir, prefix).length > 0 && tries <= removeTries; tries++) {
        for (const name of groupsIn(found!.dir, prefix)) {
          if (!removeGroup(found!.dir, name)) await sleep(removeEveryMs) // its last process is just ending
        }
      }
    },
  }
}

function problemOf(found: Hierarchy | undefined, prefix: string, cores: number): string | undefined {
  if (found === undefined) {
    if (process.platform !== 'linux') return 'Only Linux limits the CPU time of a process.'
    return 'No control group that limits CPU time may be made here. On Linux start it as root, or by: systemd-run --user -p Delegate=yes'
  }
  const probe = `${prefix}probe`
  try {
    const entered = askProgram('/bin/sh', ['-c', 'echo $$ > "$0"', makeGroup(found, probe, cores)])
    return entered.status === 0 ? undefined : `No process may enter a control group: ${entered.stderr.trim()}`
  } catch (error) {
    return `A control group cannot be made: ${messageOf(error)}`
  } finally {
    removeGroup(found.dir, probe)
  }
}

/** Makes a group with its limit. @returns the file through which a process enters it */
function makeGroup({ version, dir }: Hierarchy, name: string, cores: number): string {
  const group = path.join(dir, name)
  if (!existsSync(group)) mkdirSync(group)
  for (const [file, value] of limitFiles(version, cores)) writeFileSync(path.join(group, file), value)
  return path.join(group, 'cgroup.procs')
}

/** Returns the files of a group that limit its CPU time, with their values, in the order in which they are written. Pure. */
export function limitFiles(version: Hierarchy['version'], cores: number): [file: string, value: string][] {
  const { periodUs, quotaUs } = limitOf(cores)
  if (version === 2) return [['cpu.max', `${quotaUs} ${periodUs}`]]
  return [
    ['cpu.cfs_period_us', String(periodUs)],
    ['cpu.cfs_quota_us', String(quotaUs)],
  ]
}

/** @returns false while a process of it still runs */
function removeGroup(dir: string, name: string): boolean {
  const group = path.join(dir, name)
  try {
    rmdirSync(group)
    return true
  } catch {
    return !existsSync(group)
  }
}

/** A group that has processes cannot be removed. */
function removeOld(dir: string, prefix: string): void {
  for (const name of groupsIn(dir, allPrefix)) {
    const madeMs = statSync(path.join(dir, name), { throwIfNoEntry: false })?.ctimeMs ?? 0
    if (name.startsWith(prefix) || systemClock.now() - madeMs > leftAfterMs) removeGroup(dir, name)
  }
}

function groupsIn(dir: string, prefix: string): string[] {
  try {
    return readdirSync(dir).filter((name) => name.startsWith(prefix))
  } catch {
    return []
  }
}

/** The kernel refuses less. */
const quotaUsMin = 1_000
/** The kernel's default of 100 ms makes a process with 0.4 cores pause for 60 ms at a time; with 10 ms it is 6 ms. */
const periodUsMin = 10_000

/** Returns the CPU time of a group and the period in which it may use that, in µs. Pure. */
export function limitOf(cores: number): { periodUs: number; quotaUs: number } {
  const periodUs = Math.max(periodUsMin, Math.ceil(quotaUsMin / cores))
  return { periodUs, quotaUs: Math.max(quotaUsMin, Math.round(periodUs * cores)) }
}

/** Returns where groups may be made that limit this resource. */
export function findHierarchy(resource: Resource = 'cpu'): Hierarchy | undefined {
  if (process.platform !== 'linux') return undefined
  return groupsOf('self', resource).find(({ version, dir }) => {
    try {
      accessSync(dir, constants.W_OK)
      const passedOn = version === 1 ? resource : read(path.join(dir, 'cgroup.subtree_control'))
      return passedOn.trim().split(' ').includes(resource)
    } catch {
      return false
    }
  })
}

/** Returns the group in which a process is, as far as a resource is concerned, and with version 2 those above it. */
export function groupsOf(pid: number | 'self', resource: Resource): Hierarchy[] {
  return hierarchiesIn(read('/proc/self/mountinfo'), read(`/proc/${pid}/cgroup`), resource)
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/**
 * Returns the groups in which a group for a process might be made. Version 1: the group of this process. Version 2: also those
 * above it, because a group that contains processes does not pass the controller of a resource on. Pure.
 */
export function hierarchiesIn(mountinfo: string, ownGroups: string, resource: Resource = 'cpu'): Hierarchy[] {
  const mounts = mountinfo.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ')
    const [, , , root, point] = before!.split(' ')
    const [type, , options] = after?.split(' ') ?? []
    return type === 'cgroup' || type === 'cgroup2' ? [{ type, root: root!, point: point!, options: options ?? '' }] : []
  })
  const own = ownGroups.split('\n').map((line) => /^\d+:([^:]*):(.*)$/.exec(line) ?? ['', '', ''])
  const groupOf = (matches: (controllers: string) => boolean) => own.find(([all, names]) => all && matches(names!))?.[2]
  return mounts.flatMap(({ type, root, point, options }): Hierarchy[] => {
    const isWanted = (names: string) => names.split(',').includes(resource)
    if (type === 'cgroup' && !isWanted(options)) return []
    const group = groupOf(type === 'cgroup' ? isWanted : (names) => names === '')
    if (group === undefined) return []
    const dir = path.join(point, root === '/' ? group : path.relative(root, group))
    if (type === 'cgroup') return [{ version: 1, dir }]
    const above: Hierarchy[] = []
    for (let at = dir; at.startsWith(point); at = path.dirname(at)) above.push({ version: 2, dir: at })
    return above
  })
}
