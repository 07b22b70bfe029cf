import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { RungError } from '../kernel/errors.ts'
import type { Operation } from './operation.ts'
import { complete, type Line } from './recorder.ts'

/**
 * Reads the JSON lines that a recorder has written. What has no outcome in the file may have happened. The last line may be incomplete, as
 * after a kill.
 * @throws HISTORY_INVALID
 */
export async function readHistory(file: string): Promise<Operation[]> {
  return (await linesOfHistory(file)).operations
}

/** Like `readHistory`, and says whether the last line is incomplete. */
export async function linesOfHistory(file: string): Promise<{ operations: Operation[]; isCut: boolean }> {
  const operations = new Map<number, Operation>()
  let number = 0
  let broken: number | undefined
  for await (const text of createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1
    if (text === '') continue
    if (broken !== undefined) throw invalid(file, broken)
    const line = lineOf(text)
    const operation = line && operations.get(line.id)
    if (line === undefined || (line.type === 'invoke') === (operation !== undefined)) broken = number
    else if (line.type === 'invoke') {
      const { type: _, at: beganAt, ...invocation } = line
      operations.set(line.id, { ...invocation, beganAt, endedAt: Number.POSITIVE_INFINITY, outcome: 'info' })
    } else {
      const { id: _, type, at, ...completion } = line
      complete(operation!, type, at, completion)
    }
  }
  return { operations: [...operations.values()], isCut: broken !== undefined }
}

function lineOf(text: string): Line | undefined {
  try {
    const line = JSON.parse(text) as Line
    return typeof line?.id === 'number' && typeof line.at === 'number' ? line : undefined
  } catch {
    return undefined
  }
}

function invalid(file: string, line: number): RungError {
  return new RungError('HISTORY_INVALID', `Line ${line} of ${file} is not a line of a history. Record it again.`)
}
