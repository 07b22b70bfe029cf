import type { Data, SqlTag } from 'rung'
import { refuse } from '../errors.ts'
import { AccountFollowed, accountKey } from './events.ts'

export interface ProfileRow {
  id: number
  username: string
  bio: string | null
  image: string | null
  following: boolean
}

/** Whose profiles, and who looks at them. */
export interface ProfilesAsked {
  ids: readonly number[]
  viewer: number | null
}

/**
 * Profiles of many accounts at once, as `viewer` sees them. Unknown ids are left out. What several requests ask for at one
 * moment is one look-up: every list and every article needs its authors.
 */
export function profilesBatch(data: Data): (asked: ProfilesAsked) => Promise<ProfileRow[]> {
  return data.batch(async (sql, asked) => {
    const ids = [...new Set(asked.flatMap((one) => one.ids))]
    const [accounts, followed] = await Promise.all([
      sql<Omit<ProfileRow, 'following'>>`select id, username, bio, image from identity.account where id = any(${ids})`,
      followedAmong(sql, asked),
    ])
    const byId = new Map(accounts.map((account) => [account.id, account]))
    return asked.map(({ ids: wanted, viewer }) =>
      wanted.flatMap((id) => {
        const account = byId.get(id)
        return account ? [{ ...account, following: followed.has(`${viewer} ${id}`) }] : []
      }),
    )
  })
}

/** Which of the viewers follow which of the accounts they look at, as `viewer account`. The anonymous follow nobody. */
async function followedAmong(sql: SqlTag, asked: readonly ProfilesAsked[]): Promise<Set<string>> {
  const pairs = asked.flatMap(({ ids, viewer }) => (viewer === null ? [] : ids.map((id) => [viewer, id] as const)))
  if (pairs.length === 0) return new Set()
  const rows = await sql<{ follower_id: number; followee_id: number }>`
    select follower_id, followee_id from identity.follow
    join unnest(${pairs.map(([viewer]) => viewer)}::bigint[], ${pairs.map(([, id]) => id)}::bigint[])
      asked (follower_id, followee_id) using (follower_id, followee_id)`
  return new Set(rows.map((row) => `${row.follower_id} ${row.followee_id}`))
}

export async function profileNamed(data: Data, username: string, viewer: number | null): Promise<ProfileRow> {
  const [profile] = await data.read(
    (sql) => sql<ProfileRow>`
      select id, username, bio, image,
        exists (select from identity.follow where follower_id = ${viewer} and followee_id = account.id) as following
      from identity.account where username = ${username}`,
  )
  if (!profile) throw refuse('HTTP_NOT_FOUND', 'profile', 'not found')
  return profile
}

export async function follow(data: Data, viewer: number, username: string): Promise<ProfileRow> {
  const profile = await profileNamed(data, username, viewer)
  await data.write(async (tx) => {
    const added = await tx`insert into identity.follow (follower_id, followee_id) values (${viewer}, ${profile.id})
      on conflict do nothing returning follower_id`
    if (added.length === 0) return
    tx.publish(AccountFollowed, { followerId: viewer, followeeId: profile.id }, { key: accountKey(profile.id) })
  })
  return { ...profile, following: true }
}

export async function unfollow(data: Data, viewer: number, username: string): Promise<ProfileRow> {
  const profile = await profileNamed(data, username, viewer)
  await data.write(
    (tx) => tx`delete from identity.follow where follower_id = ${viewer} and followee_id = ${profile.id}`,
  )
  return { ...profile, following: false }
}

/** The accounts that one follows. */
export function followedByBatch(data: Data): (accountId: number) => Promise<number[]> {
  return data.batch(async (sql, accountIds) => {
    const rows = await sql<{ follower_id: number; ids: number[] }>`
      select follower_id, array_agg(followee_id) as ids from identity.follow
      where follower_id = any(${[...new Set(accountIds)]}) group by follower_id`
    const byId = new Map(rows.map(({ follower_id, ids }) => [follower_id, ids]))
    return accountIds.map((id) => byId.get(id) ?? [])
  })
}

export async function idOf(data: Data, username: string): Promise<number | null> {
  const [row] = await data.read(
    (sql) => sql<{ id: number }>`select id from identity.account where username = ${username}`,
  )
  return row?.id ?? null
}
