import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from './ask-program.ts'

/** The packages of an engine. */
export interface Packages {
  debian: readonly string[]
  /** Services that Debian would start by itself. */
  debianServices: readonly string[]
  brew: readonly string[]
  dockerImage: string
}

/** Whether this process may install packages: as root on Debian or a system derived from it. */
export function canInstall(): boolean {
  return process.getuid?.() === 0 && existsSync('/etc/debian_version') && existsSync('/usr/bin/apt-get')
}

/**
 * Installs packages through apt. Debian starts the services that it installs, but Rung starts its engines itself: new services are
 * masked during the installation and switched off afterwards. Existing ones stay as they are.
 * @throws ENGINE_MISSING with the last line of apt
 */
export async function installDebian(wanted: readonly Packages[], note: (line: string) => void): Promise<void> {
  const missing = wanted.filter(({ debian }) => !debian.every(isInstalled))
  const services = missing
    .filter(({ debian }) => !debian.some(isInstalled))
    .flatMap(({ debianServices }) => debianServices)
  const packages = missing.flatMap(({ debian }) => debian)
  if (packages.length === 0) return
  const units = services.map((name) => `${name}.service`)
  const hasSystemctl = services.length > 0 && askProgram('systemctl', ['--version']).status === 0
  if (hasSystemctl) askProgram('systemctl', ['mask', ...units], patient)
  try {
    await apt(['update'], note)
    await apt(['install', '--yes', '--no-install-recommends', ...packages], note)
  } finally {
    if (hasSystemctl) askProgram('systemctl', ['unmask', ...units], patient)
  }
  for (const name of services) switchOff(name)
}

/** Stopping a service takes time. */
const patient = { timeoutMs: 120_000 }

function isInstalled(name: string): boolean {
  return askProgram('dpkg-query', ['--status', name]).stdout.includes('Status: install ok installed')
}

function switchOff(service: string): void {
  const script = `/etc/init.d/${service}`
  if (existsSync('/run/systemd/system')) askProgram('systemctl', ['disable', '--now', `${service}.service`], patient)
  else if (existsSync(script)) {
    askProgram(script, ['stop'], patient)
    askProgram('update-rc.d', [service, 'disable'], patient)
  }
}

const telling = /^(Get:|Unpacking |Setting up |E: |Err:)/

function apt(args: readonly string[], note: (line: string) => void): Promise<void> {
  const command = [
    'DEBIAN_FRONTEND=noninteractive',
    'apt-get',
    '-o',
    'DPkg::Lock::Timeout=120',
    '-o',
    'Dpkg::Use-Pty=0',
  ]
  const child = spawn('env', [...command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let last = ''
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      if (line.trim() !== '') last = line
      if (telling.test(line)) note(line)
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new RungError('ENGINE_MISSING', `apt-get ${args.join(' ')} failed: ${last}`))
    })
  })
}
