import { spawn } from 'node:child_process'

/** Reads nothing until the other end of the pipe closes. */
const script = 'while read -r _; do :; done; exec "$@"'

/**
 * Runs a command when this process has been killed: a shell waits for the other end of a pipe to close.
 * @returns a function that calls this off
 */
export function guardBy(command: readonly string[]): () => void {
  const shell = spawn('/bin/sh', ['-c', script, 'rung-chaos-guard', ...command], {
    detached: true, // Ctrl-C is for this process, which undoes everything itself
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.on('error', () => {})
  shell.stdin.on('error', () => {}) // the shell ended first
  shell.unref()
  ;(shell.stdin as unknown as { unref(): void }).unref()
  return () => void shell.kill('SIGKILL')
}
