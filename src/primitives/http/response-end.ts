import type { ServerResponse } from 'node:http'

const ends = new WeakMap<ServerResponse, (() => void)[]>()

/** Calls `onEnd` when the response has been sent or its connection is gone. All callers share one listener. */
export function onResponseEnd(response: ServerResponse, onEnd: () => void): void {
  const known = ends.get(response)
  if (known) return void known.push(onEnd)
  const list = [onEnd]
  ends.set(response, list)
  response.once('close', () => {
    for (const one of list) one()
  })
}
