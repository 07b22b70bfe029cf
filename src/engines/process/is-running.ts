import { readFileSync } from 'node:fs'
import { askProgram } from './ask-program.ts'

/** Whether there is a process of this number, whosever it is. One that was not reaped yet counts. */
export function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The command line of a process; empty where there is none. */
export function commandOf(pid: number): string {
  if (process.platform !== 'linux') return askProgram('ps', ['-o', 'command=', '-p', String(pid)]).stdout.trim()
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}
