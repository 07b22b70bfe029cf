import path from 'node:path'
import { messageOf } from '../kernel/errors.ts'
import type { Kept } from '../stateless/finding.ts'
import type { Input } from './command.ts'

const shownMax = 5

/** Places relative to the folder of the command. */
export function placesFrom(cwd: string, kept: Kept): Kept {
  const relative = (place: string) => path.relative(cwd, place)
  return { ...kept, file: relative(kept.file), changedAt: kept.changedAt.map(relative) }
}

/**
 * Notes what an app keeps in one process, where several are about to run. It never fails: a look at sources must not keep an app from starting.
 * @param processes their numbers, by role
 */
export async function noteKept(
  appFile: string,
  processes: Readonly<Record<string, number>>,
  { cwd, out }: Pick<Input, 'cwd' | 'out'>,
): Promise<void> {
  if (Object.values(processes).reduce((sum, count) => sum + count, 0) < 2) return
  try {
    const { lookAtSources } = await import('../stateless/look.ts')
    const found = (await lookAtSources(appFile)).filter(({ severity }) => severity !== 'note')
    if (found.length === 0) return
    out.note('The app keeps in one process what another one does not see:')
    for (const { file, line, what } of found.slice(0, shownMax).map((kept) => placesFrom(cwd, kept))) {
      out.note(`  ${file}:${line}  ${what}`)
    }
    const more = found.length > shownMax ? `${found.length - shownMax} more, and what` : 'What'
    out.note(`  ${more} to do about it: rung doctor. To try it out: rung test --nodes 2`)
  } catch (error) {
    out.note(`The sources were not looked at for what one process keeps: ${messageOf(error)}`)
  }
}
