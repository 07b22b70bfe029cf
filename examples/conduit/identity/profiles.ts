import type { Data, ModuleContext } from 'rung'
import { refuse } from '../errors.ts'
import { AccountFollowed, accountKey } from './events.ts'
import { followsTag, profileTag } from './tags.ts'

export interface ProfileRow {
  id: number
  username: string
  bio: string | null
  image: string | null
  following: boolean
}

/** What all see of an account. */
export type SeenByAll = Omit<ProfileRow, 'following'>

/** What every list and every article needs: its authors, and which of them the viewer follows. Kept, and dropped when it changes. */
export function keptProfiles({ data, cache }: Pick<ModuleContext, 'data' | 'cache'>) {
  const ttl = '10m'
  return {
    /** Unknown ids are left out. */
    async profiles(ids: readonly number[]) {
      const options = { ttl, key: (id: number) => `profile:${id}`, tags: (id: number) => [profileTag(id)] } as const
      const profiles = await cache.getMany(ids, options, async (missing) => {
        const rows = await data.read(
          (sql) => sql<SeenByAll>`select id, username, bio, image from identity.account where id = any(${missing})`,
        )
        const byId = new Map(rows.map((row) => [row.id, row]))
        return missing.map((id) => byId.get(id) ?? null)
      })
      return profiles.filter((profile) => profile !== null)
    },
    followedBy: cache.cached(
      'follows',
      { ttl, tags: (_ids, accountId) => [followsTag(accountId)] },
      async (accountId: number) => {
        const rows = await data.read(
          (sql) => sql<{ followee_id: number }>`
            select followee_id from identity.follow where follower_id = ${accountId} order by followee_id`,
        )
        return rows.map(({ followee_id }) => followee_id)
      },
    ),
  }
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
    tx.invalidate([followsTag(viewer)])
    tx.publish(AccountFollowed, { followerId: viewer, followeeId: profile.id }, { key: accountKey(profile.id) })
  })
  return { ...profile, following: true }
}

export async function unfollow(data: Data, viewer: number, username: string): Promise<ProfileRow> {
  const profile = await profileNamed(data, username, viewer)
  await data.write(async (tx) => {
    await tx`delete from identity.follow where follower_id = ${viewer} and followee_id = ${profile.id}`
    tx.invalidate([followsTag(viewer)])
  })
  return { ...profile, following: false }
}

export async function idOf(data: Data, username: string): Promise<number | null> {
  const [row] = await data.read(
    (sql) => sql<{ id: number }>`select id from identity.account where username = ${username}`,
  )
  return row?.id ?? null
}
