import { link, readFile, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { askHaproxy } from '../engines/haproxy/client.ts'
import { adminSocket, backend, groupBackends, serverPaths } from '../engines/haproxy/recipe.ts'
import { appsOf } from '../engines/nginx/client.ts'
import { adminIn, configName } from '../engines/nginx/recipe.ts'
import { poolerSocket, poolerUrl } from '../engines/pgbouncer/recipe.ts'
import { connectOnce } from '../engines/postgres/client.ts'
import { socketPort } from '../engines/postgres/recipe.ts'
import { every } from '../kernel/clock.ts'
import { type Duration, formatBytes, type Size, toBytes, toMs } from '../kernel/units.ts'
import { type Fault, type FleetPart, noEffect, refused, type Target, type Undo, untilSeen } from './fault.ts'
import { fleetParts, processOf } from './parts.ts'
import { asAdmin, endSessions } from './postgres.ts'
import { type FaultProxy, openProxy } from './proxy.ts'
import { connectToRedis } from './redis.ts'

/**
 * Faults of the network in front of a part. A proxy takes the place of its address while it runs, and its clients are made to
 * connect anew:
 *
 * - The socket of Postgres, Redis and PgBouncer is a name in a folder. It is given to the proxy's socket, and another name to the
 *   server's.
 * - The balancer is told another address of a web process, and the page cache another one of the balancer, or of a web process if there is no
 *   balancer.
 *
 * So a fleet needs no preparation for it, and costs nothing without it.
 */

const latency = network({
  name: 'latency',
  does: 'delays all bytes between a part and its clients, in both directions',
  shows: 'Requests take longer, by this time for each round trip; Redis is left out beyond 200 ms.',
  strength: { default: '50ms', help: 'time in each direction' },
  apply(proxy, strength) {
    const latencyMs = toMs(strength as Duration)
    proxy.set({ latencyMs })
    return `${latencyMs} ms in each direction`
  },
})

const jitter = network({
  name: 'jitter',
  does: 'delays each piece of data by another time',
  shows: 'The slowest requests become slower, the fastest do not.',
  strength: { default: '100ms', help: 'longest time' },
  apply(proxy, strength) {
    const jitterMs = toMs(strength as Duration)
    proxy.set({ jitterMs })
    return `up to ${jitterMs} ms in each direction`
  },
})

const bandwidth = network({
  name: 'bandwidth',
  does: 'passes on few bytes for each second and connection',
  shows: 'Long answers take long, short ones do not.',
  strength: { default: '64KiB', help: 'bytes each second' },
  apply(proxy, strength) {
    const bytesPerSecond = Math.max(1, toBytes(strength as Size))
    proxy.set({ bytesPerSecond })
    return `${formatBytes(bytesPerSecond)} each second`
  },
})

const slicer = network({
  name: 'slicer',
  does: 'passes all data on in small pieces',
  shows: 'Nothing but more work: whoever reads must put messages together.',
  strength: { default: '256B', help: 'bytes of a piece' },
  apply(proxy, strength) {
    const sliceBytes = Math.max(1, toBytes(strength as Size))
    proxy.set({ sliceBytes })
    return `pieces of ${formatBytes(sliceBytes)}`
  },
})

const blackHole = network({
  name: 'black-hole',
  does: 'takes all bytes and passes none on; connections stay open',
  shows: 'Time-outs, then other servers. A server that rung up cannot ask counts as hung.',
  apply(proxy) {
    proxy.set({ blackHole: true })
    return 'no byte arrives'
  },
})

const reset = network({
  name: 'reset',
  does: 'breaks all connections of a part again and again',
  shows: 'Statements and requests in flight fail; what may be repeated is.',
  strength: { default: '500ms', help: 'time between two breaks' },
  apply(proxy, strength) {
    const everyMs = Math.max(10, toMs(strength as Duration))
    return { did: `breaks them every ${everyMs} ms`, end: every(everyMs, () => proxy.reset()) }
  },
})

const halfOpen = network({
  name: 'half-open',
  does: 'closes connections on the side of the part, and its clients never hear of it',
  shows: 'What is sent on them waits until a time limit, then they are replaced.',
  apply: () => 'nothing',
  async onceConnected(proxy) {
    const count = proxy.connections
    proxy.halfOpen()
    return `${count} ${count === 1 ? 'connection' : 'connections'} without a server`
  },
})

export const networkFaults: readonly Fault[] = [latency, jitter, bandwidth, slicer, blackHole, reset, halfOpen]

interface NetworkFault extends Pick<Fault, 'name' | 'does' | 'shows' | 'strength'> {
  apply(proxy: FaultProxy, strength: string): string | { did: string; end(): void }
  onceConnected?(proxy: FaultProxy): Promise<string>
}

function network({ apply, onceConnected, ...fault }: NetworkFault): Fault {
  return {
    ...fault,
    on: ['primary', 'replica', 'redis', 'pooler', 'web', 'app', 'balancer'],
    needsFront: true,
    lasts: true,
    async inject(target, undoBy) {
      processOf(target.part)
      const way = await wayTo(target)
      const proxy = await openProxy(way.target, way.proxySocket)
      let end = () => {}
      try {
        const applied = apply(proxy, target.strength)
        if (typeof applied !== 'string') end = applied.end
        await way.lead(proxy, undoBy)
        await untilSeen(() => proxy.connections > 0, `No client has connected to ${target.part.name} within 5 s.`)
        const did = (await onceConnected?.(proxy)) ?? (typeof applied === 'string' ? applied : applied.did)
        return {
          did,
          async release() {
            end()
            proxy.close()
          },
        }
      } catch (error) {
        end()
        proxy.close()
        throw error
      }
    },
  }
}

/** A way from clients to a part, which can lead through a proxy. */
interface Way {
  readonly target: { path: string } | { host: string; port: number }
  /** Where the proxy listens at first; on a TCP port without it. */
  readonly proxySocket?: string
  /** Makes clients connect to the proxy, and breaks the connections that they have. */
  lead(proxy: FaultProxy, undoBy: (undo: Undo) => Promise<void>): Promise<void>
}

async function wayTo({ part, dataDir }: Target): Promise<Way> {
  if (part.front === undefined) return wayToSocket(part)
  const front = (await fleetParts(dataDir)).find(({ kind }) => kind === part.front)
  if (!front)
    throw noEffect(`The ${part.front} does not run at this moment, so nothing was done to ${part.name}. See: rung ps`)
  return part.front === 'balancer' ? wayFromBalancer(part, front) : wayFromEdge(part, front)
}

function wayToSocket(part: FleetPart): Way {
  const file = socketOf(part)
  const aside = `${file}.real`
  const proxySocket = `${file}.proxy`
  return {
    target: { path: aside },
    proxySocket,
    async lead(_, undoBy) {
      if (await identityOf(aside)) throw refused(`Another fault of the network is in force on ${part.name}.`)
      await undoBy({ how: 'restore-socket', file, aside, proxy: (await identityOf(proxySocket))! })
      await breakingConnections(part, async () => {
        await link(file, aside)
        await rename(proxySocket, file)
      })
    },
  }
}

/** Gives a server the name of its socket back, unless it was restarted meanwhile and has taken it itself. */
export async function restoreSocket({
  file,
  aside,
  proxy,
}: {
  file: string
  aside: string
  proxy: string
}): Promise<void> {
  const isProxys = (await identityOf(file)) === proxy
  if (isProxys && (await identityOf(aside))) await rename(aside, file)
  else await rm(aside, { force: true })
}

function socketOf({ kind, address }: FleetPart): string {
  if (kind === 'redis') return address
  return path.join(address, kind === 'pooler' ? poolerSocket : `.s.PGSQL.${socketPort}`)
}

/** Its number alone may be another file's by now. */
async function identityOf(file: string): Promise<string | undefined> {
  return stat(file).then(
    ({ ino, birthtimeMs }) => `${ino} ${birthtimeMs}`,
    () => undefined,
  )
}

/** Leads clients elsewhere between the connection of an administrator and what it does: breaking those of all others. */
async function breakingConnections(part: FleetPart, lead: () => Promise<void>): Promise<void> {
  if (part.kind === 'redis') {
    const redis = await connectToRedis(part)
    await redis.call('PING') // it is connected
    await lead()
    await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    return redis.close()
  }
  if (part.kind !== 'pooler') {
    return asAdmin(part, async (admin) => {
      await lead()
      await endSessions(admin)
    })
  }
  const admin = await connectOnce({ url: poolerUrl(part.address).replace('@/', '@/pgbouncer'), pooled: true })
  try {
    const { rows } = await admin.query('show databases')
    const names = (rows as { name: string }[]).map(({ name }) => name).filter((name) => name !== 'pgbouncer')
    await lead()
    for (const verb of ['kill', 'resume']) for (const name of names) await admin.query(`${verb} "${name}"`)
  } finally {
    await admin.end()
  }
}

function wayFromBalancer(part: FleetPart, balancer: FleetPart): Way {
  const socket = path.join(path.dirname(balancer.log), adminSocket)
  const port = Number(part.address.slice(part.address.lastIndexOf(':') + 1))
  const host = '127.0.0.1'
  return {
    target: { host, port },
    async lead(proxy, undoBy) {
      await undoBy({ how: 'balance', socket, part: part.name, port })
      await onceThere('The balancer', () => balance(socket, part.name, proxy.port))
      for (const server of pathsOf(part.name)) await askHaproxy(socket, `shutdown sessions server ${server}`)
    },
  }
}

/** Wherever the balancer may have it: in the backend of the processes that have no group, or in that of any group. */
const pathsOf = (part: string) => [backend, ...groupBackends].flatMap((of) => serverPaths(part, of))

/** Tells the balancer where a web process is. */
async function balance(socket: string, part: string, port: number): Promise<void> {
  for (const server of pathsOf(part)) {
    const command = `set server ${server} addr 127.0.0.1 port ${port}`
    const said = await askHaproxy(socket, command)
    if (!/changed|no need to change|^$|^No such (server|backend)/.test(said))
      throw new Error(`HAProxy refused "${command}": ${said}`)
  }
}

/** A balancer that is started anew knows the real addresses. */
export async function balanceBack({ socket, part, port }: Extract<Undo, { how: 'balance' }>): Promise<void> {
  await wasThere(balance(socket, part, port))
}

/** Another fault may just have killed the part that has to be asked, which is then started again. */
function onceThere(what: string, ask: () => Promise<void>): Promise<void> {
  return untilSeen(() => wasThere(ask()), `${what} has not answered within 5 s.`)
}

/** Returns whether there was something that could be asked. */
function wasThere(asked: Promise<void>): Promise<boolean> {
  return asked.then(
    () => true,
    (error) => {
      if (isGone(error)) return false
      throw error
    },
  )
}

/** Whether nothing listens at the address of what should be asked. */
function isGone(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) {
    if (['ENOENT', 'ECONNREFUSED'].includes((one as { code?: string }).code ?? '')) return true
  }
  return false
}

/** Connections that the page cache has are left to it: it opens others to the new address. */
function wayFromEdge({ address }: FleetPart, edge: FleetPart): Way {
  const dir = path.dirname(edge.log)
  const at = address.lastIndexOf(':')
  return {
    target: { host: address.slice(0, at), port: Number(address.slice(at + 1)) },
    async lead(proxy, undoBy) {
      const proxyAddress = `127.0.0.1:${proxy.port}`
      await undoBy({ how: 'upstream', dir, address, proxy: proxyAddress })
      await onceThere('The page cache', () => replaceUpstream(dir, address, proxyAddress))
    },
  }
}

async function replaceUpstream(dir: string, address: string, by: string): Promise<void> {
  const admin = adminIn(await readFile(path.join(dir, configName), 'utf8'))
  const present = [...(await appsOf(admin)).keys()]
  if (present.includes(address))
    await appsOf(
      admin,
      present.map((one) => (one === address ? by : one)),
    )
}

/** A page cache that is started anew knows the real addresses. */
export async function restoreUpstream({ dir, address, proxy }: Extract<Undo, { how: 'upstream' }>): Promise<void> {
  await wasThere(replaceUpstream(dir, proxy, address))
}
