import { parseArgs } from 'node:util'
import { isRungError, withData } from 'rung'
import conduit from '../app.ts'
import { type OnProgress, planFor, type SeedPlan, type Step } from './plan.ts'
import { fillSearch } from './search.ts'
import { seedConduit } from './seed.ts'
import { emailOf, seedPassword, usernameOf } from './users.ts'

const help = `npm run conduit:seed -- --articles <number> [options]

Fills Conduit's database with made-up users, articles, tags, favorites, follows
and comments: few have much of everything, most have little. Works beside a
running app and alone. The same numbers give the same content. What is there
already stays: a seed that was interrupted goes on, a repeated one adds nothing.
At the end all articles are put into the search, about 2,000 a second.

Options:
  --articles <number>   Articles, up to 10,000,000.
  --users <number>      Users (articles / 10, at least 10).
  --favorites <number>  Favorites in all (articles × 5).
  --follows <number>    Follows in all (users × 20).
  --comments <number>   Comments in all (articles / 2).
  --no-search           Leave them out of the search; the same command without it
                        puts them in.
  --seed <number>       Another seed adds other content beside it (1).
  --help                This text.

Environment: RUNG_DATA, DATABASE_URL.
Every seeded user has the password ${seedPassword}.

Example:
  npm run conduit:seed -- --articles 10000
`

const articlesMax = 10_000_000

class UsageError extends Error {}

try {
  await main(process.argv.slice(2))
} catch (error) {
  const expected = error instanceof UsageError || isRungError(error)
  note(expected ? error.message : String((error as Error).stack ?? error))
  process.exitCode = 1
}

async function main(args: string[]): Promise<void> {
  const wanted = read(args)
  if (wanted === undefined) {
    process.stdout.write(help)
    return
  }
  const { plan, search } = wanted
  const began = performance.now()
  const onProgress = progress()
  const [seeded, searched] = await withData(conduit, (dataOf, searchOf) => {
    const fill = () => seedConduit(dataOf, plan, onProgress)
    return fillSearch(dataOf('articles'), search ? searchOf('articles') : undefined, fill, onProgress)
  })
  const counts = (['users', 'follows', 'articles', 'favorites', 'comments'] as const)
    .filter((name) => seeded[name] > 0)
    .map((name) => `${grouped(seeded[name])} ${name}`)
  if (counts.length === 0) {
    note(`Nothing to add: the ${grouped(plan.articles)} articles of seed ${plan.seed} are there already.`)
  } else {
    note(`Added ${counts.join(', ')} in ${duration(performance.now() - began)}.`)
  }
  if (!searched) note('They are not in the search. The same command without --no-search puts them in.')
  if (counts.length === 0) return
  note(`Log in as ${emailOf(usernameOf(plan, 0))} with the password ${seedPassword}.`)
}

/** `undefined`: only the help is wanted. */
function read(args: string[]): { plan: SeedPlan; search: boolean } | undefined {
  const values = parsed(args)
  if (values.help) return undefined
  const given: Partial<SeedPlan> = {}
  for (const name of ['seed', 'articles', 'users', 'favorites', 'follows', 'comments'] as const) {
    const text = values[name]
    if (text === undefined) continue
    const [value, least] = [Number(text), name === 'users' ? 1 : 0]
    if (text === '' || !Number.isSafeInteger(value) || value < least) {
      throw new UsageError(`--${name} is "${text}"; it must be a whole number from ${least}.`)
    }
    given[name] = value
  }
  if (given.articles === undefined) throw new UsageError('Say how many: --articles 10000. More with --help.')
  if (given.articles > articlesMax) throw new UsageError(`At most ${grouped(articlesMax)} articles are made.`)
  const plan = planFor(given.articles, given)
  if (plan.favorites > plan.users * plan.articles) {
    throw new UsageError(`${grouped(plan.favorites)} favorites are more than every user's of every article.`)
  }
  if (plan.follows > plan.users * (plan.users - 1)) {
    throw new UsageError(`${grouped(plan.follows)} follows are more than everybody's of everybody else.`)
  }
  return { plan, search: !values['no-search'] }
}

function parsed(args: string[]) {
  const number = { type: 'string' } as const
  const options = {
    articles: number,
    users: number,
    favorites: number,
    follows: number,
    comments: number,
    seed: number,
  }
  try {
    return parseArgs({ args, options: { ...options, 'no-search': { type: 'boolean' }, help: { type: 'boolean' } } })
      .values
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. ')[0]}. More with --help.`)
  }
}

/** A line for each step, kept up to date on a terminal, every few seconds elsewhere. */
function progress(): OnProgress {
  const everyMs = process.stderr.isTTY ? 200 : 5_000
  let step: Step | undefined
  let began = performance.now()
  let shown = began
  return (now, done, total) => {
    if (now !== step) {
      began = step === undefined ? began : shown
      step = now
    }
    const time = performance.now()
    if (done < total && time - shown < everyMs) return
    shown = time
    const rate = done / Math.max(0.001, (time - began) / 1000)
    const tail = done < total ? `, ${duration(((total - done) / rate) * 1000)} left` : ''
    const line = `  ${now.padEnd(10)} ${grouped(done)} of ${grouped(total)}, ${grouped(Math.round(rate))}/s${tail}`
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}${done < total ? '' : '\n'}` : `${line}\n`)
  }
}

function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}m ${seconds % 60}s`
}

function grouped(count: number): string {
  return count.toLocaleString('en')
}

function note(text: string): void {
  process.stderr.write(`${text}\n`)
}
