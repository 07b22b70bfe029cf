import type { Data } from 'rung'
import { refuse } from '../errors.ts'

export interface ProfileRow {
  id: number
  username: string
  bio: string | null
  image: string | null
  following: boolean
}

/** Profiles of many accounts at once, as `viewer` sees them. Unknown ids are left out. */
export async function profilesOf(data: Data, ids: readonly number[], viewer: number | null): Promise<ProfileRow[]> {
  if (ids.length === 0) return []
  if (viewer === null) {
    return data.read(
      (sql) =>
        sql<ProfileRow>`select id, username, bio, image, false as following from identity.account where id = any(${ids})`,
    )
  }
  return data.read(
    (sql) => sql<ProfileRow>`
      select id, username, bio, image,
        exists (select from identity.follow where follower_id = ${viewer} and followee_id = account.id) as following
      from identity.account where id = any(${ids})`,
  )
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
  await data.write(
    (tx) =>
      tx`insert into identity.follow (follower_id, followee_id) values (${viewer}, ${profile.id}) on conflict do nothing`,
  )
  return { ...profile, following: true }
}

export async function unfollow(data: Data, viewer: number, username: string): Promise<ProfileRow> {
  const profile = await profileNamed(data, username, viewer)
  await data.write(
    (tx) => tx`delete from identity.follow where follower_id = ${viewer} and followee_id = ${profile.id}`,
  )
  return { ...profile, following: false }
}

export async function followedBy(data: Data, viewer: number): Promise<number[]> {
  const rows = await data.read(
    (sql) =>
      sql<{
        ids: number[] | null
      }>`select array_agg(followee_id) as ids from identity.follow where follower_id = ${viewer}`,
  )
  return rows[0]?.ids ?? []
}

export async function idOf(data: Data, username: string): Promise<number | null> {
  const [row] = await data.read(
    (sql) => sql<{ id: number }>`select id from identity.account where username = ${username}`,
  )
  return row?.id ?? null
}
