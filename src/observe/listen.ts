import type { Channel } from 'node:diagnostics_channel'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'

/** Listens to what one app's data does, for as long as the app runs; another app of the process is none of its business. */
export function listen<Message extends { database: unknown }>(
  http: Http,
  data: DataRoot,
  channel: Channel,
  onMessage: (message: Message) => void,
): void {
  const databases: readonly unknown[] = data.databases
  const handler = (message: unknown) => {
    if (databases.includes((message as Message).database)) onMessage(message as Message)
  }
  channel.subscribe(handler)
  http.addHook('onClose', (_instance, done) => {
    channel.unsubscribe(handler)
    done()
  })
}
