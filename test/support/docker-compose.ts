import { spawnSync } from 'node:child_process'
import type { Packages } from '../../src/engines/process/debian.ts'

export const composePackages: Packages = { debian: ['docker-compose'], debianServices: [], brew: [], dockerImage: '' }

/** For `{ skip: noCompose }`: the reason, where there is none. */
export const noCompose: string | false =
  spawnSync('docker-compose', ['--version']).status === 0
    ? false
    : 'docker-compose is not installed: apt install docker-compose'

/** Returns the configuration as Docker Compose understands it, without starting anything. */
export function composeConfig(dir: string, env: Record<string, string>): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('docker-compose', ['config'], {
    cwd: dir,
    env: { PATH: process.env.PATH, ...env },
    encoding: 'utf8',
  })
  return { status, output: status === 0 ? stdout : stderr }
}
