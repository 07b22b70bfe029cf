/** A process that owns an engine, tells about it, and is killed. */
import { startPageCache } from '../../src/engines/nginx/server.ts'
import { startRedis } from '../../src/engines/redis/server.ts'

const [engine, dir, ...ports] = process.argv.slice(2)
const [port, adminPort] = ports.map(Number)
const server =
  engine === 'redis'
    ? await startRedis({ dir: dir!, listen: { port: port! } })
    : await startPageCache({
        dir: dir!,
        listen: { host: '127.0.0.1', port: port! },
        adminPort: adminPort!,
        upstreams: ['127.0.0.1:9'],
      })
process.send!({ pid: server.pid })
process.on('disconnect', () => {}) // whoever kills it wants to see what remains
setInterval(() => {}, 60_000)
