import { spawn } from 'node:child_process'

/**
 * Ends a server when this process is dead, however it died: a shell that holds one end of a pipe, whose other end closes
 * that very moment. (On Linux the kernel could do that, but not for nginx' workers, and not on macOS.)
 */
export interface Watchdog {
  /** To be told right after the server was started. */
  watch(pid: number): void
  /** The server has ended. */
  end(): void
}

export interface WatchdogOptions {
  /** What the server gets first. */
  signal: 'TERM' | 'INT'
  /** What it gets when it is still there after its patience. */
  lastSignal: 'KILL' | 'QUIT'
  /** The whole group, or the server alone, which sees to its own. */
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

/** Started before the server: between the two nobody could be killed unseen for longer than an instant. */
export function startWatchdog({ signal, lastSignal, group, patienceMs }: WatchdogOptions): Watchdog {
  const tenths = String(Math.ceil(patienceMs / 100))
  const shell = spawn('/bin/sh', ['-c', script, 'rung-watchdog', signal, lastSignal, group ? '-' : '', tenths], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.on('error', () => {})
  shell.stdin.on('error', () => {}) // it ended first
  shell.unref()
  ;(shell.stdin as unknown as { unref(): void }).unref()
  return {
    watch: (pid) => void shell.stdin.write(`${pid}\n`),
    end: () => void shell.kill('SIGKILL'),
  }
}
