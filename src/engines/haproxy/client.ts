import { createConnection } from 'node:net'
import { after } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'

const answerBytesMax = 1024 ** 2

/**
 * Sends a command to HAProxy's runtime API (its Management Guide, 9.3) and returns the answer.
 * @param socket its admin socket
 * @throws ENGINE_START_FAILED if HAProxy does not answer in time
 */
export function askHaproxy(socket: string, command: string, withinMs = 1_000): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const connection = createConnection(socket)
  let answer = ''
  connection.setEncoding('utf8')
  connection.once('connect', () => connection.write(`${command}\n`))
  connection.on('data', (text: string) => {
    answer += text
    if (answer.length > answerBytesMax) connection.destroy(new Error('its answer is too long'))
  })
  connection.once('error', reject)
  connection.once('close', () => resolve(answer.trim()))
  const giveUp = after(withinMs, () => connection.destroy(new Error(`no answer within ${withinMs} ms`)))
  return promise.finally(giveUp).catch((cause) => {
    throw new RungError('ENGINE_START_FAILED', `HAProxy cannot be asked: ${messageOf(cause)}. See its log.`, { cause })
  })
}
