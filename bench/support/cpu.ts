import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** What processes have used so far, user and system, read from outside. */

interface Used {
  parent: number
  ownMs: number
  /** By children that have ended. */
  endedMs: number
}

/** CPU of one process with all its threads, ms. */
export function processCpuMs(pid: number): number {
  return readAll().get(pid)?.ownMs ?? Number.NaN
}

/** CPU of a process and everything it has started, ms: a database server and its sessions, also those that are over. */
export function treeCpuMs(root: number): number {
  const all = readAll()
  let sum = 0
  for (const [pid, { ownMs, endedMs }] of all) {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = all.get(at)?.parent) {
      if (at !== root) continue
      sum += ownMs + endedMs
      break
    }
  }
  return sum
}

function readAll(): Map<number, Used> {
  return process.platform === 'linux' ? fromProc() : fromPs()
}

/** `/proc/<pid>/stat`, proc_pid_stat(5): the name may hold spaces, so fields are counted from behind its parenthesis. */
function fromProc(): Map<number, Used> {
  const tickMs = 10 // USER_HZ is 100 on every Linux that Node runs on
  const all = new Map<number, Used>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const [parent, utime, stime, cutime, cstime] = [1, 11, 12, 13, 14].map((at) => Number(fields[at]))
      all.set(Number(name), {
        parent: parent!,
        ownMs: (utime! + stime!) * tickMs,
        endedMs: (cutime! + cstime!) * tickMs,
      })
    } catch {
      // it has just ended; its parent has its time
    }
  }
  return all
}

function fromPs(): Map<number, Used> {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,time='], { encoding: 'utf8' }).trim().split('\n')
  return new Map(
    lines.map((line) => {
      const [pid, parent, time] = line.trim().split(/\s+/)
      const seconds = time!.split(/[-:]/).reduce((sum, part) => sum * 60 + Number(part), 0)
      return [Number(pid), { parent: Number(parent), ownMs: seconds * 1000, endedMs: 0 }]
    }),
  )
}

/** Resident memory of a process and its children, bytes; what they share counts for each. */
export function treeResidentBytes(root: number): number {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,rss='], { encoding: 'utf8' }).trim().split('\n')
  const all = lines.map((line) => line.trim().split(/\s+/).map(Number) as [number, number, number])
  return 1024 * all.reduce((sum, [pid, parent, rss]) => (pid === root || parent === root ? sum + rss : sum), 0)
}

/** Resident memory of one process, bytes. */
export function residentBytes(pid: number): number {
  return 1024 * Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' }))
}
