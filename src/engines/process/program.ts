import { askProgram } from './ask-program.ts'

/** A program that is installed on this machine. */
export interface Program {
  path: string
  /** What it says of itself. */
  versionText: string
}

/** Where packages put servers, which is not on everybody's PATH. */
const alsoIn = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/opt/homebrew/bin', '/opt/homebrew/sbin']

/**
 * The first of these that is installed and runs.
 * @throws ENGINE_START_FAILED when it is asked for its version and does not answer
 */
export function findProgram(names: readonly string[], versionFlag: string): Program | undefined {
  for (const name of names) {
    const script = `PATH="$PATH:${alsoIn.join(':')}"; command -v -- "$1"`
    const path = askProgram('/bin/sh', ['-c', script, 'sh', name]).stdout.trim()
    if (!path.startsWith('/')) continue
    const { status, stdout, stderr } = askProgram(path, [versionFlag])
    if (status === 0) return { path, versionText: `${stdout}${stderr}`.trim() }
  }
  return undefined
}

/** `7.0.15` is at least `6.2`. */
export function isAtLeast(version: string, least: string): boolean {
  const [have, want] = [version, least].map((text) => text.split('.').map(Number))
  for (const [index, part] of want!.entries()) {
    const other = have![index] ?? 0
    if (other !== part) return other > part
  }
  return true
}
