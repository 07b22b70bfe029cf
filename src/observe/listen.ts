import type { Channel } from 'node:diagnostics_channel'
import type { Http } from '../primitives/http/http.ts'

/** Listens to a channel for as long as the app runs. */
export function listen<Message>(http: Http, channel: Channel, onMessage: (message: Message) => void): void {
  const handler = (message: unknown) => onMessage(message as Message)
  channel.subscribe(handler)
  http.addHook('onClose', (_instance, done) => {
    channel.unsubscribe(handler)
    done()
  })
}
