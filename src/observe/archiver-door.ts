import { createServer } from 'node:http'
import { RungError } from '../kernel/errors.ts'
import { observeBackups } from './backup-metrics.ts'
import { Figures } from './figures.ts'
import { metricsPath } from './metrics.ts'

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
