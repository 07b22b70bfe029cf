import { createServer } from 'node:http'
import { RungError } from '../kernel/errors.ts'
import { archiverMetrics, metricsPath } from './metrics.ts'

/** `/healthz` and `/metrics` of a process that archives and runs no app, for this machine alone. Gives what closes it. */
export async function openArchiverDoor(port: number, backupDir: string): Promise<() => void> {
  const { contentType, text, end } = archiverMetrics(backupDir)
  const server = createServer(async ({ url }, response) => {
    if (url === '/healthz') response.setHeader('content-type', 'application/json').end('{"status":"ok"}')
    else if (url === metricsPath) response.setHeader('content-type', contentType).end(await text())
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
