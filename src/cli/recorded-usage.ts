import { existsSync } from 'node:fs'
import path from 'node:path'
import { systemClock } from '../kernel/clock.ts'
import { messageOf, sentence } from '../kernel/errors.ts'
import { readUsage, type Usage } from '../observe/record/usage.ts'
import type { Input } from './command.ts'
import { withOpenDatabase } from './database.ts'
import { toolBindings } from './input-settings.ts'

/**
 * What the record knows of users and rates, for commands that also work without it: neither is there before the first start, and `problem` says why
 * a database could not be read.
 */
export async function recordedUsage(input: Input): Promise<{ usage?: Usage; problem?: string }> {
  const { data, dataDir } = await toolBindings(input)
  if (data.engine === 'embedded' && !existsSync(path.join(dataDir, 'postgres'))) return {}
  try {
    const usage = await withOpenDatabase(input, ({ database }) => readUsage(database, systemClock.now()))
    return usage ? { usage } : {}
  } catch (error) {
    return { problem: sentence(messageOf(error)) }
  }
}
