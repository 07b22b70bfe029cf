import type { Channel } from 'node:diagnostics_channel'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'

/** Listens to messages about one app's databases, for as long as the app runs. */
export function listen<Message extends { database: unknown }>(
  http: Http,
  data: DataRoot,
  channel: Channel,
  onMessage: (message: Message) => void,
): void {
  const databases: readonly unknown[] = data.databases
  listenUntilClose(http, channel, (message) => {
    if (databases.includes((message as Message).database)) onMessage(message as Message)
  })
}

/** Listens to a channel of the process for as long as the app runs. */
export function listenUntilClose(http: Http, channel: Channel, onMessage: (message: unknown) => void): void {
  channel.subscribe(onMessage)
  http.addHook('onClose', (_instance, done) => {
    channel.unsubscribe(onMessage)
    done()
  })
}
