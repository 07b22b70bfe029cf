import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** What processes have used so far, read from outside. */

/** CPU of a process and everything it has started, user and system, in ms. Children that have ended count too. */
export function cpuMs(pids: readonly number[]): number {
  return process.platform === 'linux' ? fromProc(pids) : fromPs(pids)
}

/** `/proc/<pid>/stat`, proc_pid_stat(5): the name may hold spaces, so fields are counted from behind its parenthesis. */
function fromProc(pids: readonly number[]): number {
  const all = new Map<number, { parent: number; own: number; ended: number }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const [parent, utime, stime, cutime, cstime] = [1, 11, 12, 13, 14].map((at) => Number(fields[at]))
      all.set(Number(name), { parent: parent!, own: utime! + stime!, ended: cutime! + cstime! })
    } catch {
      // it has just ended; its parent has its time
    }
  }
  const ticks = withChildren(pids, (pid) => all.get(pid)?.parent, all.keys()).reduce((sum, pid) => {
    const found = all.get(pid)!
    return sum + found.own + found.ended
  }, 0)
  return ticks * 10 // USER_HZ is 100 on every Linux that Node runs on
}

function fromPs(pids: readonly number[]): number {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,time='], { encoding: 'utf8' }).trim().split('\n')
  const all = new Map<number, { parent: number; ms: number }>()
  for (const line of lines) {
    const [pid, parent, time] = line.trim().split(/\s+/)
    const seconds = time!.split(/[-:]/).reduce((sum, part) => sum * 60 + Number(part), 0)
    all.set(Number(pid), { parent: Number(parent), ms: seconds * 1000 })
  }
  const wanted = withChildren(pids, (pid) => all.get(pid)?.parent, all.keys())
  return wanted.reduce((sum, pid) => sum + all.get(pid)!.ms, 0)
}

function withChildren(
  roots: readonly number[],
  parentOf: (pid: number) => number | undefined,
  all: Iterable<number>,
): number[] {
  return [...all].filter((pid) => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parentOf(at)) {
      if (roots.includes(at)) return true
    }
    return false
  })
}

/** Resident memory of one process, bytes. */
export function residentBytes(pid: number): number {
  return 1024 * Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' }))
}
