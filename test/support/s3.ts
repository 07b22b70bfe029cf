import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { S3Client } from '../../src/engines/s3/client.ts'
import { parseS3Url, type S3Address } from '../../src/topology/urls.ts'
import { freePort } from './ports.ts'
import { until } from './process.ts'

/** The object gateway of Ceph, a real S3 store, with what it needs beneath: 270 MB. */
export const s3Packages = {
  debian: ['ceph-mon', 'ceph-osd', 'radosgw'],
  debianServices: ['ceph-crash', 'ceph', 'radosgw'],
  brew: [],
  dockerImage: '',
}

const needed = ['monmaptool', 'ceph-mon', 'ceph-osd', 'ceph', 'radosgw', 'radosgw-admin']
/** For `{ skip: noS3 }`: the reason, where there is none. */
export const noS3: string | false = needed.every((name) => existsSync(`/usr/bin/${name}`))
  ? false
  : `the object gateway of Ceph is not installed: apt install ${s3Packages.debian.join(' ')}`

export interface TestS3 {
  /** Without a bucket. */
  readonly origin: string
  /** Creates a bucket, and returns its URL for RUNG_S3_URL. */
  bucket(name: string): Promise<string>
  stop(): Promise<void>
}

const keys = { accessKey: 'TESTKEY', secretKey: 'a/secret+of=the:tests@' }
const run = promisify(execFile)

export function s3UrlOf({ origin }: Pick<TestS3, 'origin'>, bucket: string, { accessKey, secretKey } = keys): string {
  return `s3+http://${encodeURIComponent(accessKey)}:${encodeURIComponent(secretKey)}@${origin.replace('http://', '')}/${bucket}`
}

export function s3AddressOf(url: string): S3Address {
  return parseS3Url(url)!
}

/** A monitor, a disk in memory and a gateway, without authentication among themselves. Takes some 15 s, because it creates its pools. */
export async function testS3(): Promise<TestS3> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-s3-'))
  const children: ChildProcess[] = []
  async function start(name: string, args: readonly string[]): Promise<void> {
    const log = await open(path.join(dir, `${name}.out`), 'w')
    const child = spawn(name, args, { stdio: ['ignore', log.fd, log.fd] })
    await once(child, 'spawn')
    children.unshift(child)
    await log.close()
  }
  async function stop(): Promise<void> {
    for (const child of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
    await rm(dir, { recursive: true })
  }

  try {
    const [monitor, gateway] = [await freePort(), await freePort()]
    const fsid = randomUUID()
    const disk = randomUUID()
    const config = path.join(dir, 'ceph.conf')
    const map = path.join(dir, 'monmap')
    await writeFile(config, configOf({ dir, fsid, monitor, gateway }))
    await mkdir(path.join(dir, 'mon'))
    await mkdir(path.join(dir, 'osd'))
    await run('monmaptool', ['--create', '--addv', 'a', `[v2:127.0.0.1:${monitor}]`, '--fsid', fsid, map])
    await run('ceph-mon', ['-c', config, '-i', 'a', '--mkfs', '--monmap', map])
    await start('ceph-mon', ['-c', config, '-i', 'a', '-f'])
    await run('ceph', ['-c', config, 'osd', 'new', disk])
    await run('ceph-osd', ['-c', config, '-i', '0', '--mkfs', '--osd-uuid', disk])
    await start('ceph-osd', ['-c', config, '-i', '0', '-f'])
    const user = ['user', 'create', '--uid=test', '--display-name=test', `--access-key=${keys.accessKey}`]
    await run('radosgw-admin', ['-c', config, ...user, `--secret-key=${keys.secretKey}`])
    await start('radosgw', ['-c', config, '-n', 'client.admin', '-f'])
    await until(() => accepts(gateway), 'the gateway listens')
    const origin = `http://127.0.0.1:${gateway}`
    return {
      origin,
      async bucket(name) {
        const url = s3UrlOf({ origin }, name)
        const client = new S3Client(s3AddressOf(url))
        // The first one creates pools, which may take longer than a call.
        await until(() => client.ask({ method: 'PUT' }).catch(() => undefined), 'the bucket exists')
        client.close()
        return url
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, '127.0.0.1')
  socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}

function configOf(parts: { dir: string; fsid: string; monitor: number; gateway: number }): string {
  const { dir, fsid, monitor, gateway } = parts
  return `[global]
fsid = ${fsid}
mon host = v2:127.0.0.1:${monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data = ${dir}/mon
osd data = ${dir}/osd
run dir = ${dir}
log file = ${dir}/$name.log
admin socket = ${dir}/$name.$pid.asok
pid file =
[client]
keyring = /dev/null
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:${gateway}
`
}
