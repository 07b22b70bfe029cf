import type { Data } from 'rung'
import type { PageAsked } from '../schemas.ts'

/** What is kept of one account, for its owner. */

export interface Kept {
  username: string
  email: string
  bio: string | null
  image: string | null
  createdAt: string
}

export async function accountOf(data: Data, accountId: number): Promise<Kept | null> {
  const [row] = await data.read(
    (sql) => sql<Omit<Kept, 'createdAt'> & { created_at: Date }>`
      select username, email, bio, image, created_at from identity.account where id = ${accountId}`,
  )
  if (!row) return null
  const { created_at, ...rest } = row
  return { ...rest, createdAt: created_at.toISOString() }
}

export async function followsOf(data: Data, { accountId, after, limit }: PageAsked) {
  const rows = await data.read(
    (sql) => sql<{ id: number; username: string; created_at: Date }>`
      select account.id, account.username, follow.created_at
      from identity.follow join identity.account on account.id = follow.followee_id
      where follow.follower_id = ${accountId} and follow.followee_id > ${after}
      order by follow.followee_id limit ${limit}`,
  )
  return rows.map(({ created_at, ...row }) => ({ ...row, followedAt: created_at.toISOString() }))
}

export async function followsCount(data: Data, accountId: number): Promise<{ follows: number }> {
  const [row] = await data.read(
    (sql) => sql<{ follows: number }>`
      select count(*)::int as follows from identity.follow where follower_id = ${accountId}`,
  )
  return row!
}
