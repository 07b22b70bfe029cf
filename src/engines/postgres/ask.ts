import { connect } from 'node:net'
import { after } from '../../kernel/clock.ts'

/** "May I have TLS?": the one question that is answered before the server knows who asks. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

/** Whether the server takes connections and makes processes for them; none of those that it has to give is used up. */
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
