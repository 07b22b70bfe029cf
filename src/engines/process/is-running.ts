import { readFileSync } from 'node:fs'
import { askProgram } from './ask-program.ts'

/** Whether a process of any user has this id. A zombie counts. */
export function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Returns the command line of a process, or an empty text. */
export function commandOf(pid: number): string {
  if (process.platform !== 'linux') return askProgram('ps', ['-o', 'command=', '-p', String(pid)]).stdout.trim()
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}
