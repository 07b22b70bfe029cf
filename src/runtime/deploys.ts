import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'

/** A build that was started on a database, or that went on at another rung. */
export interface Deploy {
  id: number
  build: string
  /** The build before it. */
  previous: string | null
  rung: string
  /** Of a climb: the rung before. The build is the same then. */
  fromRung: string | null
  startedBy: 'rung start' | 'rung up' | 'rung deploy' | 'rung climb'
  /** `refused`: its migrations were. `failed`: it could be neither completed nor taken back. `interrupted`: the supervisor ended before the deploy did. */
  outcome: 'running' | 'done' | 'rolled back' | 'refused' | 'failed' | 'interrupted'
  /** Why it was taken back. */
  reason: string | null
  /** The migrations that were applied for it. They stay when it is taken back. */
  migrations: string[]
  startedAt: Date
  endedAt: Date | null
}

type New = Pick<Deploy, 'build' | 'rung' | 'startedBy'> & { fromRung?: string }

const keptMax = 1_000
const lockKey = 0x72756e69 // starts of several processes record one deploy
/** The column `from_rung` is missing in the database of an app that runs an older Rung. */
const columns = `id::int as id, build, previous, rung, started_by as "startedBy", outcome, reason, migrations,
  to_jsonb(deploy) ->> 'from_rung' as "fromRung", started_at as "startedAt", ended_at as "endedAt"`

/** Returns the last deploys, the newest first; none where no app was started on the database. */
export function listDeploys(connection: ConnectionConfig, countMax: number): Promise<Deploy[]> {
  return using(connection, async (client) => {
    const { rows: known } = await client.query<{ yes: boolean }>(`select to_regclass('rung.deploy') is not null as yes`)
    if (!known[0]!.yes) return []
    const { rows } = await client.query(`select ${columns} from rung.deploy order by id desc limit $1`, [countMax])
    return rows
  })
}

/**
 * Records a start of this build, unless it is the one that was started last. A deploy that a dead supervisor had begun counts as interrupted.
 * @returns whether it was recorded
 */
export function recordStart(connection: ConnectionConfig, { build, rung, startedBy }: New): Promise<boolean> {
  return using(connection, (client) =>
    inTransaction(client, async () => {
      if (startedBy === 'rung up') {
        await client.query(`update rung.deploy set outcome = 'interrupted', ended_at = now() where outcome = 'running'`)
      }
      const last = await presentBuild(client)
      if (last === build) return false
      await insert(client, { build, rung, startedBy }, last, 'done')
      return true
    }),
  )
}

/** Records that a deploy or a climb begins. @returns its id */
export function recordDeploy(connection: ConnectionConfig, deploy: New, previous: string): Promise<number> {
  return using(connection, (client) => inTransaction(client, () => insert(client, deploy, previous, 'running')))
}

/** Records how a deploy ended. */
export function endDeploy(
  connection: ConnectionConfig,
  id: number,
  { outcome, reason, migrations }: Pick<Deploy, 'outcome' | 'reason' | 'migrations'>,
): Promise<void> {
  return using(connection, async (client) => {
    await client.query(
      'update rung.deploy set outcome = $2, reason = $3, migrations = $4, ended_at = now() where id = $1',
      [id, outcome, reason, migrations],
    )
  })
}

/** The build that the last deploy left running, if that is known. */
async function presentBuild(client: Client): Promise<string | null> {
  const { rows } = await client.query<{ build: string | null }>(
    `select case when outcome in ('rolled back', 'refused') or started_by = 'rung climb' then previous when outcome = 'done' then build end as build from rung.deploy order by id desc limit 1`,
  )
  return rows[0]?.build ?? null
}

async function insert(
  client: Client,
  { build, rung, startedBy, fromRung }: New,
  previous: string | null,
  outcome: string,
) {
  const { rows } = await client.query<{ id: number }>(
    `insert into rung.deploy (build, previous, rung, started_by, outcome, ended_at)
      values ($1, $2, $3, $4, $5, case when $5 = 'running' then null else now() end) returning id::int as id`,
    [build, previous, rung, startedBy, outcome],
  )
  const { id } = rows[0]!
  if (fromRung !== undefined) await client.query('update rung.deploy set from_rung = $2 where id = $1', [id, fromRung])
  await client.query('delete from rung.deploy where id <= $1', [id - keptMax])
  return id
}

async function inTransaction<T>(client: Client, work: () => Promise<T>): Promise<T> {
  await client.query('begin')
  await client.query('select pg_advisory_xact_lock($1)', [lockKey])
  const result = await work()
  await client.query('commit') // on an error the connection is closed
  return result
}

async function using<T>(connection: ConnectionConfig, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connectOnce(connection)
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
