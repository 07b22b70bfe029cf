import type { IdentityCalls } from './contract.ts'

/** Returns accounts as `viewer` sees them, by their numbers. The anonymous follow nobody. Unknown ids are left out. */
export async function profilesSeen(
  who: Pick<IdentityCalls, 'profiles' | 'followedBy'>,
  { ids, viewer }: { ids: readonly number[]; viewer: number | null },
) {
  const [profiles, followed] = await Promise.all([
    who.profiles({ ids: [...new Set(ids)].sort((a, b) => a - b) }), // the same accounts are the same kept answer
    viewer === null ? [] : who.followedBy({ accountId: viewer }),
  ])
  const following = new Set(followed)
  return new Map(profiles.map(({ id, ...profile }) => [id, { ...profile, following: following.has(id) }]))
}
