import { askProgram } from './ask-program.ts'

/** A program that is installed on this machine. */
export interface Program {
  path: string
  /** Output of its version option. */
  versionText: string
}

/** Where packages put servers; not always on the PATH. */
const alsoIn = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/opt/homebrew/bin', '/opt/homebrew/sbin']

/**
 * Finds the first of these programs that is installed and runs.
 * @throws ENGINE_START_FAILED if it does not answer with its version
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

/** Whether a version such as `7.0.15` is at least another one such as `6.2`. */
export function isAtLeast(version: string, least: string): boolean {
  const [have, want] = [version, least].map((text) => text.split('.').map(Number))
  for (const [index, part] of want!.entries()) {
    const other = have![index] ?? 0
    if (other !== part) return other > part
  }
  return true
}
