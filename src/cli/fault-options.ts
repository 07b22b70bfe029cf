import type { Fault } from '../chaos/fault.ts'
import { faultCalled, faults } from '../chaos/faults.ts'
import { systemRandom } from '../kernel/random.ts'
import { type Input, numberOption } from './command.ts'

const seedMax = 2 ** 31

/** What `--seed` says, otherwise a new one. @throws COMMAND_INVALID */
export function seedChosen(input: Pick<Input, 'values'>): number {
  return numberOption(input, 'seed', { max: seedMax, otherwise: 1 + Math.floor(systemRandom() * (seedMax - 1)) })
}

/** What `--faults` names, otherwise all that are possible on the machine and disk of the data directory. @throws COMMAND_INVALID */
export async function faultsChosen({ values }: Pick<Input, 'values'>, dataDir: string): Promise<readonly Fault[]> {
  if (values.faults !== undefined) return String(values.faults).split(',').map(faultCalled)
  const problems = await Promise.all(faults.map(async ({ problem }) => problem?.(dataDir)))
  return faults.filter((_, index) => problems[index] === undefined)
}
