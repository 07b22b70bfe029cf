import { readdirSync, readFileSync } from 'node:fs'
import { askProgram } from './ask-program.ts'

/** The CPU time that each process of this machine has used until now, and where it is known that of its children that have ended. */
export type CpuTimes = ReadonlyMap<number, { readonly parent: number; readonly ms: number; readonly endedMs?: number }>

/** /proc counts in ticks of 10 ms on all systems of today. */
const tickMs = 10

export function cpuTimes(): CpuTimes {
  if (process.platform !== 'linux') return cpuTimesIn(askProgram('ps', ['-A', '-o', 'pid=,ppid=,time=']).stdout)
  const found = new Map<number, { parent: number; ms: number; endedMs: number }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const ms = (first: number) => (Number(fields[first]) + Number(fields[first + 1])) * tickMs
      found.set(Number(name), { parent: Number(fields[1]), ms: ms(11), endedMs: ms(13) })
    } catch {
      // it has just ended
    }
  }
  return found
}

/** Reads lines like `  501     1 1-02:03:04.56`, of `ps -o pid=,ppid=,time=`. Pure. */
export function cpuTimesIn(text: string): CpuTimes {
  const found = new Map<number, { parent: number; ms: number }>()
  for (const line of text.split('\n')) {
    const match = /^\s*(\d+)\s+(\d+)\s+(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)\s*$/.exec(line)
    if (!match) continue
    const [, pid, parent, days = 0, hours = 0, minutes, seconds] = match
    const ms = (((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000
    found.set(Number(pid), { parent: Number(parent), ms: Math.round(ms) })
  }
  return found
}

/** Returns the time that a process and its descendants used between two looks, in ms. Pure. */
export function cpuUsedMs(pid: number, before: CpuTimes, now: CpuTimes): number {
  const usedMs = (one: number) => Math.max(0, (now.get(one)?.ms ?? 0) - (before.get(one)?.ms ?? 0))
  return familyOf(pid, now).reduce((sum, one) => sum + usedMs(one), 0)
}

/** Returns the time that a process has used since its start with all descendants, also those that have ended, in ms. Pure. */
export function cpuTotalMs(pid: number, now: CpuTimes): number {
  return familyOf(pid, now).reduce((sum, one) => sum + (now.get(one)?.ms ?? 0) + (now.get(one)?.endedMs ?? 0), 0)
}

/** Returns a process and its descendants, each after its parent. */
export function familyOf(pid: number, now: CpuTimes = cpuTimes()): number[] {
  const children = Map.groupBy(now.keys(), (one) => now.get(one)!.parent)
  const family = [pid]
  for (const one of family) family.push(...(children.get(one) ?? []))
  return family
}
