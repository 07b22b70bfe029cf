import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { until } from '../support/process.ts'
import { type Conduit, conduitClient, expectBody, type Profile, type Target } from './conduit-client.ts'

/** What the tests need besides the API: the rows as they are, and the clock's part. */
export interface Beside {
  /** Statements of the tests' own, past the app. */
  query<Row = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<Row[]>
  /** Runs what cron runs every minute or hour. */
  tick(job: 'digests' | 'exports' | 'avatars' | 'reindex'): Promise<void>
  /** Enqueues the mail of a day once more, as a crash of whoever had it would. */
  sendDigestAgain(input: { accountId: number; day: string }): Promise<void>
  /** The keys of a module's files, as they lie in the store. */
  filesOf(module: string): Promise<string[]>
}

export type Scene = { api: Conduit; target: Target } & Beside

export interface Notification {
  id: number
  kind: 'follow' | 'comment' | 'favorite'
  createdAt: string
  read: boolean
  actor: Profile
  article: { slug: string; title: string } | null
  commentId: number | null
}

export interface Notifications {
  notifications: Notification[]
  notificationsCount: number
  unreadCount: number
}

/** An answer that is not one of the API's JSON. */
export async function fetchAt(target: Target, path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(new URL(path, target().baseUrl), { redirect: 'manual', signal: AbortSignal.timeout(30_000), ...init })
}

export async function notificationsOf(api: Conduit, reader: { token: string }, query = ''): Promise<Notifications> {
  return expectBody(await api.get(`/notifications${query}`, reader.token)) as unknown as Notifications
}

/** Nothing waits and nothing runs for these groups and queues: what was to come has come. */
export async function settled({ query }: Pick<Beside, 'query'>, queues: readonly string[] = []): Promise<void> {
  await until(async () => {
    const rows = await query(
      `select from rung.job where dead_at is null and (queue like 'event:%' and queue <> 'event:probe' or queue = any($1)) and run_at <= now() limit 1`,
      [queues],
    )
    return rows.length === 0
  }, 'all events have been handled')
}

/** What Conduit does beyond the API that everybody's Conduit has. */
export function conduitExtended(target: Target, beside: Beside, parts: readonly ((scene: Scene) => void)[]): void {
  const scene = { api: conduitClient(target), target, ...beside }
  describe('conduit, extended', () => {
    for (const part of parts) part(scene)
    it('leaves no dead jobs', async () => {
      const dead = await beside.query('select name, error from rung.job where dead_at is not null')
      assert.deepEqual(dead, [])
    })
  })
}

/** At rung 1k files lie in the data directory. */
export async function storedFiles(dataDir: string, module: string): Promise<string[]> {
  const entries = await readdir(path.join(dataDir, 'files', `${module}+`), {
    recursive: true,
    withFileTypes: true,
  }).catch(() => [])
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name))
}
