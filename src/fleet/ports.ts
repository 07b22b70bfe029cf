import { createHash } from 'node:crypto'
import { createServer } from 'node:net'
import { messageOf, RungError } from '../kernel/errors.ts'

/** Below the ports of outgoing connections (from 32,768 or 49,152), so that a restart finds them free. */
const first = 20_000
const span = 10_000

/**
 * Finds free ports; the same ones for the same data directory if possible.
 * @throws PORT_IN_USE
 */
export async function freePorts(dataDir: string, count: number, except: readonly number[] = []): Promise<number[]> {
  const begin = createHash('sha256').update(dataDir).digest().readUInt32BE() % span
  const found: number[] = []
  for (let step = 0; found.length < count && step < span; step += 1) {
    const port = first + ((begin + step) % span)
    if (!except.includes(port) && (await listens('127.0.0.1', port)) === undefined) found.push(port)
  }
  if (found.length < count)
    throw new RungError(
      'PORT_IN_USE',
      `There are not enough free ports between ${first} and ${first + span}. Stop what uses them.`,
    )
  return found
}

/**
 * Returns the port for clients; for 0 any free one.
 * @throws PORT_IN_USE, CONFIG_INVALID before anything is started
 */
export async function publicPort(dataDir: string, host: string, port: number): Promise<number> {
  if (port === 0) return (await freePorts(`${dataDir}/public`, 1))[0]!
  const error = await listens(host, port)
  if (error === undefined) return port
  if (error.code === 'EADDRINUSE')
    throw new RungError(
      'PORT_IN_USE',
      `Port ${port} of ${host} is in use. Stop what uses it, or set PORT (or --port) to another one.`,
    )
  throw new RungError('CONFIG_INVALID', `Cannot listen on ${host}:${port} (${messageOf(error)}). Set HOST and --port.`)
}

function listens(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', resolve)
    server.listen({ host, port }, () => server.close(() => resolve(undefined)))
  })
}
