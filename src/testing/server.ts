import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Client, connectOnce } from '../engines/postgres/client.ts'
import { startEmbedded } from '../engines/postgres/embedded.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { migrate } from '../migrations/migrate.ts'
import { sqlState } from '../primitives/data/errors.ts'
import type { Migration } from '../primitives/data/migrations.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import { withDatabase } from '../topology/urls.ts'
import { clockSchema, clockSearchPath } from './clock.ts'
import { type Lag, startLateReplica } from './late-replica.ts'

/** A Postgres on which tests make their databases. */
export interface TestServer {
  /** Of a role that may create databases. */
  readonly url: string
  /** The folder by which processes of tests find its late replica, if it has one. */
  readonly replica?: string
  stop(): Promise<void>
}

const connectionsMax = 300

/** The address of the server that the environment gives to tests: that of the run, otherwise the app's. */
export function givenServer(env: Readonly<Record<string, string | undefined>>): string | undefined {
  return readSetting(settings.process.testServer, { env }) ?? readSetting(settings.data.url, { env })
}

/**
 * Starts a Postgres whose data is gone when it stops. It ends with this process, however that ends.
 * @param lag it has a replica, which is this late
 */
export async function startTestServer(lag?: Lag): Promise<TestServer> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const remove = () => rm(dir, { recursive: true, force: true })
  try {
    const server = await startEmbedded({ root: dir, connectionsMax, throwaway: true, endsWithOwner: true })
    const { host, user } = server.connection
    const admin = await connectOnce(server.adminConnection)
    await admin.query(`alter role "${user}" createdb`).finally(() => admin.end())
    const url = `postgres://${user}@/postgres?host=${encodeURIComponent(host!)}`
    if (lag === undefined) return { url, stop: () => server.stop().finally(remove) }
    try {
      const replica = await startLateReplica(server, dir, connectionsMax, lag)
      const stop = () => replica.stop().finally(() => server.stop())
      return { url, replica: dir, stop: () => stop().finally(remove) }
    } catch (error) {
      await server.stop()
      throw error
    }
  } catch (error) {
    await remove()
    throw error
  }
}

/** A database of one test app. */
export interface TestDatabase {
  readonly name: string
  readonly url: string
  drop(): Promise<void>
}

/**
 * Makes a database with all migrations applied. The first of them makes a template; the others, also those of other processes, are
 * copies of it. The template is named by its content, so a changed migration makes a new one.
 * @throws TEST_DATABASE; what `migrate` throws
 */
export async function createTestDatabase(serverUrl: string, migrations: readonly Migration[]): Promise<TestDatabase> {
  const client = await usable(connectOnce({ url: serverUrl }))
  const template = templateName(migrations)
  const name = `${copyPrefix}${Math.floor(systemClock.now() / 1000).toString(36)}_${randomBytes(6).toString('hex')}`
  try {
    if (!cleaned.has(serverUrl)) {
      cleaned.add(serverUrl)
      await removeAbandoned(client)
    }
    for (let attempt = 0; ; attempt += 1) {
      if (!(await exists(client, template))) await makeTemplate(client, serverUrl, template, migrations)
      try {
        // The default strategy, WAL_LOG: FILE_COPY asks for checkpoints, and took up to 14 s beside other work (bench/testing.ts).
        await client.query(`create database ${name} template ${template}`)
        break
      } catch (error) {
        if (sqlState(error) !== noSuchDatabase || attempt === 3) throw unusable(error)
        // Another run has removed the template as one of the oldest.
      }
    }
    await client.query(`alter database ${name} set search_path = ${clockSearchPath}`) // a template does not pass it on
  } finally {
    await client.end()
  }
  return {
    name,
    url: withDatabase(serverUrl, name),
    async drop() {
      const dropping = await connectOnce({ url: serverUrl })
      await dropDatabase(dropping, name).finally(() => dropping.end())
    },
  }
}

/**
 * Also where somebody is connected. Not "with (force)": that ends autovacuum too, which a role that is no superuser may not. Without it Postgres
 * asks autovacuum to end.
 */
async function dropDatabase(client: Client, name: string): Promise<unknown> {
  await client.query({
    text: 'select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1 and usename = current_user',
    values: [name],
  })
  return client.query(`drop database if exists ${name}`)
}

/** Servers on which this process has looked for what killed runs have left. */
const cleaned = new Set<string>()

const noSuchDatabase = '3D000'
const copyPrefix = 'rung_test_'
const templatePrefix = 'rung_template_'
/** More than this are left behind by changed migrations. */
const templatesMax = 20
const abandonedAfterS = 3_600

function templateName(migrations: readonly Migration[]): string {
  const hash = createHash('sha256').update(clockSchema).update(clockSearchPath)
  for (const { module, name, checksum } of migrations) hash.update(`\n${module}/${name} ${checksum}`)
  return `${templatePrefix}${hash.digest('hex').slice(0, 16)}`
}

async function exists(client: Client, name: string): Promise<boolean> {
  return (await client.query('select from pg_database where datname = $1', [name])).rows.length > 0
}

/** Its name is given last, so that one which was not finished is never copied. */
async function makeTemplate(
  client: Client,
  serverUrl: string,
  template: string,
  migrations: readonly Migration[],
): Promise<void> {
  await client.query('select pg_advisory_lock(hashtextextended($1, 0))', [template])
  try {
    if (await exists(client, template)) return
    await removeAbandoned(client)
    const draft = `${template}_draft`
    await usable(dropDatabase(client, draft))
    await usable(client.query(`create database ${draft}`))
    const connection = { url: withDatabase(serverUrl, draft) }
    const inside = await connectOnce(connection)
    await inside.query(clockSchema).finally(() => inside.end())
    await migrate({ connection, migrations, searchedBehind: clockSearchPath })
    await client.query(`alter database ${draft} allow_connections false`) // a database in use cannot be copied
    await client.query(`alter database ${draft} rename to ${template}`)
  } finally {
    await client.query('select pg_advisory_unlock(hashtextextended($1, 0))', [template])
  }
}

/** What killed runs and earlier migrations have left on a server that goes on running. */
async function removeAbandoned(client: Client): Promise<void> {
  const { rows } = await client.query(
    `select datname as name from pg_database d
     where pg_has_role(datdba, 'member') and not exists (select from pg_stat_activity a where a.datid = d.oid)
     order by oid desc`,
  )
  const names = (rows as { name: string }[]).map(({ name }) => name)
  const nowS = systemClock.now() / 1000
  const copies = names.filter((name) => {
    const [, madeAt] = /^rung_test_([0-9a-z]+)_[0-9a-f]{12}$/.exec(name) ?? []
    return madeAt !== undefined && nowS - Number.parseInt(madeAt, 36) > abandonedAfterS
  })
  const templates = names.filter((name) => /^rung_template_[0-9a-f]{16}$/.test(name)).slice(templatesMax)
  for (const name of [...copies, ...templates]) {
    await client.query(`drop database if exists ${name}`).catch(() => {}) // another run may be at it
  }
}

function usable<T>(work: Promise<T>): Promise<T> {
  return work.catch((error) => {
    throw unusable(error)
  })
}

function unusable(cause: unknown): RungError {
  return new RungError(
    'TEST_DATABASE',
    `A test cannot make its database on the given Postgres (${messageOf(cause)}). Its role needs CREATEDB; correct DATABASE_URL, or unset it so that a server is started.`,
    { cause },
  )
}
