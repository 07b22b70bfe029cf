import type { DataOf } from 'rung'
import { seedArticles } from './articles.ts'
import { seedComments } from './comments.ts'
import type { OnProgress, Seeded, SeedPlan } from './plan.ts'
import { seedUsers } from './users.ts'

/**
 * Writes the plan's content. A batch is a transaction, and what is there already stays as it is: a seed that was
 * interrupted goes on where it stopped, one that is repeated adds nothing.
 */
export async function seedConduit(dataOf: DataOf, plan: SeedPlan, onProgress: OnProgress = () => {}): Promise<Seeded> {
  const seeded: Seeded = { users: 0, follows: 0, articles: 0, favorites: 0, comments: 0 }
  const accounts = await seedUsers(dataOf('identity'), plan, seeded, onProgress)
  const articles = await seedArticles(dataOf('articles'), plan, accounts, seeded, onProgress)
  await seedComments(dataOf('comments'), plan, accounts, articles, seeded, onProgress)
  if (Object.values(seeded).some((count) => count > 0)) await settle(dataOf, onProgress)
  return seeded
}

const tables = {
  identity: ['account', 'follow'],
  articles: [
    'article',
    'article_tag',
    'favorite',
    'article_count',
    'tag_count',
    'author_count',
    'author_tag_count',
    'favorite_count',
  ],
  comments: ['comment'],
}

/** Postgres does this by itself in the minutes to come; until then its plans would be guesses. */
async function settle(dataOf: DataOf, onProgress: OnProgress): Promise<void> {
  const all = Object.entries(tables).flatMap(([module, names]) => names.map((name) => [module, name] as const))
  for (const [at, [module, name]] of all.entries()) {
    await dataOf(module).pool.query(`vacuum (analyze) ${module}.${name}`)
    onProgress('statistics', at + 1, all.length)
  }
}
