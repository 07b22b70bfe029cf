import { createServer } from 'node:http'
import { RungError } from '../kernel/errors.ts'
import { observeBackups } from './backup-metrics.ts'
import { Figures } from './figures.ts'
import { metricsPath } from './metrics.ts'
import type { Metric } from './record/snapshot.ts'

/**
 * Serves `/healthz` and `/metrics` of a process that only archives, on 127.0.0.1.
 * @returns a function that closes it
 * @throws PORT_IN_USE, CONFIG_INVALID
 */
export async function openArchiverDoor(port: number, backupDir: string, uploads: boolean): Promise<() => void> {
  const figures = new Figures()
  const end = observeBackups(backupDir, uploads, figures)
  const server = createServer(async ({ url }, response) => {
    if (url === '/healthz') response.setHeader('content-type', 'application/json').end('{"status":"ok"}')
    else if (url === metricsPath) response.setHeader('content-type', figures.contentType).end(await figures.text())
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `Cannot listen on 127.0.0.1:${port} (${cause.code}). Name another --port.`
      reject(new RungError(cause.code === 'EADDRINUSE' ? 'PORT_IN_USE' : 'CONFIG_INVALID', message, { cause }))
    })
    server.listen(port, '127.0.0.1', resolve)
  })
  return () => {
    end()
    server.close()
    server.closeAllConnections()
  }
}

const answerMsMax = 2_000

/**
 * Asks such a process for its times and the bytes that wait: it has no record of its own.
 * @param address `127.0.0.1:3005`
 * @returns nothing if it does not answer
 */
export async function figuresOfArchiver(address: string): Promise<Metric[]> {
  const text = await fetch(`http://${address}${metricsPath}`, { signal: AbortSignal.timeout(answerMsMax) })
    .then((response) => response.text())
    .catch(() => '')
  return [...text.matchAll(/^(backup_\w+_(?:timestamp_seconds|bytes)) (\S+)$/gm)].map(([, name, value]) => ({
    name: name!,
    type: 'gauge',
    values: [{ value: Number(value), labels: {} }],
  }))
}
