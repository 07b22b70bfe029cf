import { askProgram } from './ask-program.ts'

/** Returns how many files the operating system allows a process to open, if that is known. */
export function filesMax(): number | undefined {
  const limit = Number(askProgram('/bin/sh', ['-c', 'ulimit -Hn']).stdout.trim())
  return limit > 0 ? limit : undefined
}
