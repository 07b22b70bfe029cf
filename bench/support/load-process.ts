import { connect } from 'node:net'
import type { LoadJob, LoadResult } from './load.ts'

/** The generator's side: raw sockets, requests written in advance, answers counted and not looked at further. */

process.on('message', (job: LoadJob) => {
  run(job).then(
    (result) => process.send!({ result }),
    (error) => process.send!({ error: String(error) }),
  )
})

async function run({ url, requests, count, connections }: LoadJob): Promise<LoadResult> {
  const { hostname, port, host } = new URL(url)
  const texts = requests.map(({ path, headers = {} }) => {
    const lines = Object.entries({ host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
    return Buffer.from(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
  })
  let sent = 0
  let failures = 0
  const began = performance.now()
  await Promise.all(
    Array.from({ length: Math.min(connections, count) }, () => {
      return new Promise<void>((resolve, reject) => {
        const open = () => {
          const socket = connect({ host: hostname, port: Number(port), noDelay: true })
          const next = () => {
            if (sent >= count) {
              socket.destroy()
              resolve()
              return
            }
            socket.write(texts[sent % texts.length]!)
            sent += 1
          }
          const onAnswer = answers((status, isLast) => {
            if (status !== 200) failures += 1
            if (!isLast) return next()
            socket.removeAllListeners().destroy() // nginx ends a connection after 10,000 requests
            open()
          })
          socket.once('connect', next)
          socket.on('data', onAnswer)
          socket.once('error', reject)
          socket.once('end', () => reject(new Error(`${url} closed a connection`)))
        }
        open()
      })
    }),
  )
  return { requests: sent, failures, seconds: (performance.now() - began) / 1000 }
}

/** Calls `onAnswer` for each complete answer; all of them have a content-length. */
function answers(onAnswer: (status: number, isLast: boolean) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  let missing = 0
  let status = 0
  let isLast = false
  return (chunk) => {
    let data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    rest = Buffer.alloc(0)
    while (data.length > 0) {
      if (missing === 0) {
        const end = data.indexOf('\r\n\r\n')
        if (end < 0) {
          rest = data
          return
        }
        const head = data.toString('latin1', 0, end)
        const length = /\r\ncontent-length: (\d+)/i.exec(head)
        if (!length) throw new Error(`an answer without content-length: ${head}`)
        status = Number(head.slice(9, 12))
        isLast = /\r\nconnection: close/i.test(head)
        missing = Number(length[1])
        data = data.subarray(end + 4)
        if (missing === 0) onAnswer(status, isLast)
        continue
      }
      const taken = Math.min(missing, data.length)
      missing -= taken
      data = data.subarray(taken)
      if (missing === 0) onAnswer(status, isLast)
    }
  }
}
