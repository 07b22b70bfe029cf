import { RungError } from '../kernel/errors.ts'
import { changes } from './changes.ts'
import { clockFaults } from './clock.ts'
import { diskFaults } from './disk.ts'
import { type Fault, type Kind, kinds } from './fault.ts'
import { networkFaults } from './network.ts'
import { postgresFaults } from './postgres.ts'
import { processFaults } from './processes.ts'
import { redisFaults } from './redis.ts'
import { squeezes } from './squeeze.ts'

export const faults: readonly Fault[] = [
  ...processFaults,
  ...squeezes,
  ...postgresFaults,
  ...redisFaults,
  ...networkFaults,
  ...diskFaults,
  ...clockFaults,
  ...changes,
]

/** @throws COMMAND_INVALID */
export function faultCalled(name: string): Fault {
  const found = faults.find((fault) => fault.name === name)
  if (found) return found
  throw new RungError('COMMAND_INVALID', `There is no fault "${name}". See: rung chaos list`)
}

/** @throws COMMAND_INVALID */
export function checkFit({ name, on }: Fault, part: { name: string; kind: Kind }): void {
  if (on.includes(part.kind)) return
  throw new RungError('COMMAND_INVALID', `${name} does not fit ${part.name}: it is for ${partsInWords(on)}.`)
}

export function partsInWords(on: readonly Kind[]): string {
  return on.length === kinds.length ? 'any part' : on.join(', ')
}
