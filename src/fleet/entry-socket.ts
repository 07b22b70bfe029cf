import { lookup } from 'node:dns/promises'
import net from 'node:net'
import { RungError } from '../kernel/errors.ts'

/** A bound socket. Node's own type of it is internal. */
interface Handle {
  readonly fd: number
  getsockname(name: { port?: number }): number
  close(): void
}

/** As `node:cluster` makes the sockets that its workers share: bound, and nobody accepts here. */
type CreateHandle = (address: string, port: number, addressType: 4 | 6) => Handle | number

/** The public port, which the supervisor holds and never accepts from. Processes that are started with it accept side by side. */
export interface EntrySocket {
  readonly fd: number
  close(): void
}

/**
 * Takes the public port before anything is started. While no process accepts, connections wait in the kernel instead of being refused.
 * @throws PORT_IN_USE
 */
export async function openEntrySocket(host: string, port: number): Promise<EntrySocket> {
  const { address, family } = await lookup(host)
  const { _createServerHandle: create } = net as unknown as { _createServerHandle: CreateHandle }
  const handle = create(address, port, family === 6 ? 6 : 4)
  if (typeof handle !== 'number') {
    // libuv reports a port that is taken only when somebody listens, and a process that listens then gets a random port.
    const bound: { port?: number } = {}
    handle.getsockname(bound)
    if (bound.port === port) return handle
    handle.close()
  }
  throw new RungError(
    'PORT_IN_USE',
    `Port ${port} of ${host} cannot be used. Stop what uses it, or set PORT (or --port).`,
  )
}
