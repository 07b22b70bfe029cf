/** What runs where, as data. A rung is one of these; `rung.config.ts` and the environment change single values. */
export interface Topology {
  readonly rung: RungName
  readonly data: DataTopology
  readonly cache: CacheTopology
  readonly edge: EdgeTopology
  /** In front of everything, run by somebody else. */
  readonly cdn: CdnTopology | undefined
  /** `disk`: in the data directory. */
  readonly files: { readonly engine: 'disk' }
  readonly mail: MailTopology
  /** Where clients come in: at the edge, or at the one process that answers. */
  readonly http: { readonly host: string; readonly port: number }
  /** How many processes of each role. */
  readonly processes: { readonly both: number; readonly web: number; readonly worker: number }
  /** What has not answered for so long is ended and started again; 0 is never. */
  readonly silentMsMax: number
}

export type RungName = '1k' | '10k'

export interface DataTopology {
  /** `embedded`: Rung starts its own Postgres in the data directory. `external`: one that runs already. */
  readonly engine: 'embedded' | 'external'
  /** Of an external Postgres, `postgres://…`. */
  readonly url: string | undefined
  /** Connections of one process. Reads and writes have a pool each, so that neither starves the other. */
  readonly readConnectionsMax: number
  readonly writeConnectionsMax: number
  readonly idleTimeoutMs: number
  /** A statement that runs longer is ended by the server. */
  readonly statementTimeoutMs: number
  readonly lockTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

export interface CacheTopology {
  /** `memory`: each process for itself. `redis`: with a second layer that all processes share. */
  readonly engine: 'memory' | 'redis'
  /** Of Redis or Valkey, `redis://…`. */
  readonly url: string | undefined
  /** Of the memory layer of one process. */
  readonly memoryBytesMax: number
}

export interface EdgeTopology {
  /** `nginx`: a page cache in front of the processes that answer. */
  readonly engine: 'none' | 'nginx'
  /** Of its own door, by which pages are purged: `http://127.0.0.1:9001`. */
  readonly url: string | undefined
  readonly secret: string | undefined
}

export type CdnName = 'fastly' | 'cloudflare'

export interface CdnTopology {
  readonly name: CdnName
  /** Of its API, where it is not the vendor's own. */
  readonly url: string | undefined
  /** Of the service (Fastly), the zone (Cloudflare). */
  readonly id: string
  /** May purge. Comes by the environment alone, and is never shown. */
  readonly token: string
}

export interface MailTopology {
  /** `eml`: written into the data directory, for people to look at. `smtp`: through a server. */
  readonly engine: 'eml' | 'smtp'
  /** Of the server, `smtp://…`. */
  readonly url: string | undefined
  /** Who sends where a mail does not say: `Shop <shop@example.org>`. */
  readonly from: string
}
