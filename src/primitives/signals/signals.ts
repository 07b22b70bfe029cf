import { after } from '../../kernel/clock.ts'
import type { SignalLine } from './contract.ts'

/**
 * Wakes other processes. A signal is a set of words on a channel; it may be late, merged with others, or lost. Whoever
 * listens must therefore also look by themselves from time to time. Signals are sent outside of any transaction: a NOTIFY
 * in one makes commits wait for each other.
 */
export interface Signals {
  /** Sends words soon. They have no line breaks. No words: there is something new. */
  send(channel: Channel, words?: Iterable<string>): void
  /** Calls `heard` with the words that others sent, and with `undefined` if some may have been missed. */
  listen(channel: Channel, heard: (words: ReadonlySet<string> | undefined) => void): void
  close(): Promise<void>
}

/** `jobs`: queues with work. `cache`: the log of invalidations has grown; the words name what places know already. */
export type Channel = 'jobs' | 'cache'

/** Signals over a line. A failure is reported, and is otherwise a lost signal. */
export function signalsOver(line: SignalLine, failed: (error: unknown) => void): Signals {
  const listeners: { channel: Channel; heard: (words: ReadonlySet<string> | undefined) => void }[] = []
  const pending = new Map<Channel, Set<string>>()
  const pausing = new Set<Channel>()
  const sending = new Set<Promise<void>>()
  let isClosed = false

  function flush(channel: Channel): void {
    const words = pending.get(channel)
    if (!words || isClosed || pausing.has(channel)) return
    pending.delete(channel)
    pausing.add(channel)
    const message = [channel, ...words].join('\n')
    // Too much for one message: then it only says that there is something.
    const sent = line.publish(Buffer.byteLength(message) > line.bytesMax ? channel : message).catch(failed)
    sending.add(sent)
    void sent.finally(() => sending.delete(sent))
    after(line.pauseMs, () => {
      pausing.delete(channel)
      flush(channel)
    })
  }

  function heard(message: string): void {
    const [channel, ...words] = message.split('\n')
    for (const one of listeners) {
      if (one.channel === channel) one.heard(words.length > 0 ? new Set(words) : undefined)
    }
  }

  return {
    send(channel, words = []) {
      const waiting = pending.get(channel) ?? new Set()
      for (const word of words) waiting.add(word)
      pending.set(channel, waiting)
      flush(channel)
    },
    listen(channel, onSignal) {
      listeners.push({ channel, heard: onSignal })
      if (listeners.length > 1) return
      line.subscribe(heard, () => {
        for (const one of listeners) one.heard(undefined)
      })
    },
    async close() {
      isClosed = true
      await Promise.all(sending)
      await line.close()
    },
  }
}
