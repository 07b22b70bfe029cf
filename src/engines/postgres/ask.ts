import { connect } from 'node:net'
import { after } from '../../kernel/clock.ts'

/** A request for TLS: the only message that is answered before the client signs in. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

/** Whether the server creates a process for a connection. It does not take one of `max_connections`. */
export function answersAt(socketPath: string, withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath, () => socket.write(sslRequest))
    const forget = after(withinMs, () => end(false))
    function end(answered: boolean): void {
      forget()
      socket.destroy()
      resolve(answered)
    }
    socket.once('data', () => end(true))
    socket.once('error', () => end(false))
    socket.once('close', () => end(false))
  })
}
