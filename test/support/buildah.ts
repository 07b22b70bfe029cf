import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { text } from 'node:stream/consumers'

/** Images that are really built, and run without a daemon: a container is a folder, and its processes are those of this machine. */

/** For `{ skip: noBuildah }`: the reason, where it cannot be used. */
export const noBuildah: string | false = whyNot()

function whyNot(): string | false {
  if (process.getuid?.() !== 0) return 'images are built as root only'
  return spawnSync('buildah', ['--version']).status === 0 ? false : 'buildah is not installed: apt install buildah'
}

export interface Builder {
  /** Runs a command of buildah. Rejects with what it told. */
  run(...args: readonly string[]): Promise<string>
  /** Starts a program in a container. */
  start(container: string, options: readonly string[], command: readonly string[]): ChildProcess
}

/** A store of images of its own, in `dir`. */
export function builderIn(dir: string): Builder {
  const place = ['--root', path.join(dir, 'images'), '--runroot', path.join(dir, 'run'), '--storage-driver', 'vfs']
  return {
    async run(...args) {
      const child = spawn('buildah', [...place, ...args], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] })
      const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
      if (code !== 0) throw new Error(`buildah ${args.join(' ')}:\n${output}\n${errors}`)
      return output.trim()
    },
    start: (container, options, command) =>
      spawn('buildah', [...place, 'run', '--isolation', 'chroot', ...options, container, '--', ...command], {
        cwd: dir,
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
  }
}

/** Makes a base image with this Node, this machine's npm and a shell, under the name of the official one. */
export async function makeNodeImage({ run }: Builder, dir: string, name: string): Promise<void> {
  const root = path.join(dir, 'base')
  const place = (file: string, at = file) => cpSync(realpathSync(file), path.join(root, at), { recursive: true })
  for (const folder of ['tmp', 'root', 'app', 'usr/bin', 'usr/local/bin', 'etc'])
    mkdirSync(path.join(root, folder), { recursive: true })
  for (const link of ['bin', 'lib', 'lib64', 'sbin']) {
    mkdirSync(path.join(root, 'usr', link), { recursive: true })
    symlinkSync(`usr/${link}`, path.join(root, link))
  }
  const programs = ['sh', 'env', 'mkdir', 'chown', 'rm', 'cat', 'ls', 'id', 'du'].map((one) => which(one))
  for (const program of programs) place(program, path.join('usr/bin', path.basename(program)))
  place(process.execPath, 'usr/local/bin/node')
  for (const library of librariesOf([...programs, process.execPath])) {
    const at = path.join(root, 'usr', realpathSync(path.dirname(library)).replace(/^\/usr/, ''), path.basename(library))
    mkdirSync(path.dirname(at), { recursive: true })
    cpSync(realpathSync(library), at)
  }
  const npm = path.resolve(realpathSync(which('npm')), '../..')
  place(npm, 'usr/local/lib/npm')
  symlinkSync('../lib/npm/bin/npm-cli.js', path.join(root, 'usr/local/bin/npm'))
  writeFileSync(path.join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/tmp:/bin/sh\n')
  writeFileSync(path.join(root, 'etc/group'), 'root:x:0:\nnode:x:1000:\n')
  // As npm is set up on this machine.
  const settings = path.join(process.env.HOME ?? '/root', '.npmrc')
  if (existsSync(settings)) place(settings, 'root/.npmrc')
  const certificates = '/etc/ssl/certs/ca-certificates.crt'
  if (existsSync(certificates)) place(certificates)

  const container = await run('from', 'scratch')
  await run('add', container, root, '/')
  const env = [
    'PATH=/usr/local/bin:/usr/bin:/bin',
    ...(existsSync(certificates) ? [`NODE_EXTRA_CA_CERTS=${certificates}`] : []),
  ]
  await run('config', ...env.flatMap((one) => ['--env', one]), container)
  await run('commit', '--rm', container, `docker.io/library/${name}`)
}

function which(program: string): string {
  return spawnSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).stdout.trim()
}

function librariesOf(programs: readonly string[]): Set<string> {
  const told = spawnSync('ldd', [...programs], { encoding: 'utf8' }).stdout
  return new Set([...told.matchAll(/(?:=> |^\s+)(\/\S+) \(/gm)].map((match) => match[1]!))
}

/** The descendants of a process that run this program. */
export function descendantsRunning(pid: number, program: string): number[] {
  const all = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const [, parent] = /^\d+ \(.*\) \S (\d+)/.exec(readFileSync(`/proc/${entry}/stat`, 'utf8'))!
        return [{ pid: Number(entry), parent: Number(parent), runs: path.basename(readlinkSync(`/proc/${entry}/exe`)) }]
      } catch {
        return [] // it has ended
      }
    })
  const below = (of: number): typeof all =>
    all.filter(({ parent }) => parent === of).flatMap((one) => [one, ...below(one.pid)])
  return below(pid)
    .filter(({ runs }) => runs === program)
    .map((one) => one.pid)
}
