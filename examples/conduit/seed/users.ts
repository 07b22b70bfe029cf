import type { Data } from 'rung'
import { hashPassword } from '../identity/passwords.ts'
import { batches, type OnProgress, type Seeded, type SeedPlan, seedTime, suffixOf } from './plan.ts'
import { randomFor, shares, zipfSet } from './random.ts'
import { nameOf, textOf } from './words.ts'

/** Of every seeded user. */
export const seedPassword = 'conduit-seed'

const atOnce = 5_000

export function usernameOf(plan: SeedPlan, index: number): string {
  return `${nameOf(randomFor(plan.seed, 'user', index))}-${suffixOf(plan, index)}`
}

export function emailOf(username: string): string {
  return `${username}@example.com`
}

/** Users, and whom they follow: mostly those at the front. Returns their ids by their place in the plan. */
export async function seedUsers(
  data: Data,
  plan: SeedPlan,
  seeded: Seeded,
  onProgress: OnProgress,
): Promise<Float64Array> {
  const ids = new Float64Array(plan.users)
  const passwordHash = await hashPassword(seedPassword)
  const since = seedTime.fromMs / 1000
  const follows = shares(plan.follows, plan.users, plan.users - 1, (index) => randomFor(plan.seed, 'follows', index))

  for (const batch of batches(plan.users, atOnce)) {
    const names = batch.map((index) => usernameOf(plan, index))
    const bios = batch.map((index) => bioOf(plan, index))
    const images = batch.map((index) => (index % 3 === 0 ? `https://example.com/images/${index + 1}.png` : null))
    const added = await data.write(async (tx) => {
      const fresh = await tx<{ username: string }>`
        insert into identity.account (username, email, password_hash, bio, image, created_at, updated_at)
        select name, email, ${passwordHash}::text, bio, image, to_timestamp(${since}::float8), to_timestamp(${since}::float8)
        from unnest(${names}::text[], ${names.map(emailOf)}::text[], ${bios}::text[], ${images}::text[])
          as new (name, email, bio, image)
        on conflict do nothing returning username`
      const known = await tx<{ id: number; username: string }>`
        select id, username from identity.account where username = any(${names})`
      const idOf = new Map(known.map(({ id, username }) => [username, id]))
      for (const [at, name] of names.entries()) {
        const id = idOf.get(name)
        if (id === undefined) throw new Error(`The address ${emailOf(name)} belongs to another user already.`)
        ids[batch[at]!] = id
      }
      const isFresh = new Set(fresh.map(({ username }) => username))
      const newcomers = batch.filter((_, at) => isFresh.has(names[at]!))
      const [followers, followees] = whoFollowsWhom(plan, follows, newcomers, batch.at(-1)! + 1, ids)
      await tx`insert into identity.follow (follower_id, followee_id, created_at)
        select follower, followee, to_timestamp(${since}::float8)
        from unnest(${followers}::bigint[], ${followees}::bigint[]) as new (follower, followee)`
      return { users: fresh.length, follows: followers.length }
    })
    seeded.users += added.users
    seeded.follows += added.follows
    onProgress('users', batch.at(-1)! + 1, plan.users)
  }
  return ids
}

function bioOf(plan: SeedPlan, index: number): string | null {
  const random = randomFor(plan.seed, 'bio', index)
  return random() < 0.7 ? textOf(random, 1, 2) : null
}

/** Only those who are there by now (`reach`) can be followed. */
function whoFollowsWhom(
  plan: SeedPlan,
  counts: Int32Array,
  newcomers: readonly number[],
  reach: number,
  ids: Float64Array,
): [followers: number[], followees: number[]] {
  const followers: number[] = []
  const followees: number[] = []
  for (const index of newcomers) {
    for (const other of zipfSet(randomFor(plan.seed, 'follow', index), counts[index]!, reach, index)) {
      followers.push(ids[index]!)
      followees.push(ids[other]!)
    }
  }
  return [followers, followees]
}
