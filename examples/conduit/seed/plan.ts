/** How much of everything. Equal plans give equal content. */
export interface SeedPlan {
  seed: number
  articles: number
  users: number
  /** Favorites, follows and comments in all. */
  favorites: number
  follows: number
  comments: number
}

/** Counts that follow from the number of articles, unless given. */
export function planFor(articles: number, given: Partial<SeedPlan> = {}): SeedPlan {
  const users = given.users ?? Math.max(10, Math.round(articles / 10))
  return {
    seed: given.seed ?? 1,
    articles,
    users,
    favorites: given.favorites ?? articles * Math.min(5, users),
    follows: given.follows ?? users * Math.min(20, users - 1),
    comments: given.comments ?? Math.round(articles / 2),
  }
}

/** What was not there yet and was added. */
export type Seeded = Record<'users' | 'follows' | 'articles' | 'favorites' | 'comments', number>

export type Step = 'users' | 'articles' | 'comments' | 'statistics' | 'search'
/** Told after each batch: `done` of `total` of this step's things. */
export type OnProgress = (step: Step, done: number, total: number) => void

/** Everything seeded is as old as this time, evenly, the smaller ids older. Comments come a little later. */
export const seedTime = { fromMs: Date.UTC(2023, 0, 1), toMs: Date.UTC(2025, 0, 1) }
export const dayMs = 86_400_000

/** At the end of names and addresses: those of different seeds differ. */
export function suffixOf({ seed }: SeedPlan, index: number): string {
  return seed === 1 ? String(index + 1) : `${seed}x${index + 1}`
}

/** 0 … total-1 in portions. */
export function* batches(total: number, size: number): Generator<number[]> {
  for (let from = 0; from < total; from += size) {
    yield Array.from({ length: Math.min(size, total - from) }, (_, at) => from + at)
  }
}
