import { spawn } from 'node:child_process'

/**
 * Ends a server when this process has died: a shell that waits for the other end of a pipe to close. (Linux could do that itself,
 * but not for nginx' workers; macOS cannot.)
 */
export interface Watchdog {
  /** Call it right after the server was started. */
  watch(pid: number): void
  /** Call it when the server has ended. */
  end(): void
}

export interface WatchdogOptions {
  /** Sent first. */
  signal: 'TERM' | 'INT'
  /** Sent if the server still runs after `patienceMs`. */
  lastSignal: 'KILL' | 'QUIT'
  /** Whether the whole process group gets the signals, or the server alone. */
  group: boolean
  patienceMs: number
}

/** Reads the pid, then nothing until the owner's end of the pipe closes. */
const script = `PATH="$PATH:/usr/bin:/bin"
read -r pid || exit 0
while read -r _; do :; done
kill "-$1" "$3$pid" 2>/dev/null || exit 0
n=0
while [ $n -lt $(($4 + 20)) ] && kill -0 "$3$pid" 2>/dev/null; do
  n=$((n + 1))
  if [ $n -ge "$4" ]; then kill "-$2" "$3$pid" 2>/dev/null; fi
  sleep 0.1
done`

/** Start it before the server, so that the server is watched almost from its first moment. */
export function startWatchdog({ signal, lastSignal, group, patienceMs }: WatchdogOptions): Watchdog {
  const tenths = String(Math.ceil(patienceMs / 100))
  const shell = spawn('/bin/sh', ['-c', script, 'rung-watchdog', signal, lastSignal, group ? '-' : '', tenths], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.on('error', () => {})
  shell.stdin.on('error', () => {}) // the shell ended first
  shell.unref()
  ;(shell.stdin as unknown as { unref(): void }).unref()
  return {
    watch: (pid) => void shell.stdin.write(`${pid}\n`),
    end: () => void shell.kill('SIGKILL'),
  }
}
