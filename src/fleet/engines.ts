import { cdn } from '../engines/cdn/engine.ts'
import { haproxy } from '../engines/haproxy/engine.ts'
import { nats } from '../engines/nats/engine.ts'
import { nginx } from '../engines/nginx/engine.ts'
import { pgbouncer } from '../engines/pgbouncer/engine.ts'
import { postgres } from '../engines/postgres/engine.ts'
import { postgresReplica } from '../engines/postgres/replica-engine.ts'
import type { Engine } from '../engines/process/engine.ts'
import { redis } from '../engines/redis/engine.ts'

/** All engines, from the clients inwards: those in front pass requests on in this order. */
export const engines: readonly Engine[] = [cdn, nginx, haproxy, redis, nats, pgbouncer, postgresReplica, postgres]
