import { RungError } from '../kernel/errors.ts'
import { changes } from './changes.ts'
import { clockFaults } from './clock.ts'
import { diskFaults } from './disk.ts'
import { type Fault, type FleetPart, fits, type Kind, kinds } from './fault.ts'
import { natsFaults } from './nats.ts'
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
  ...natsFaults,
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
export function checkFit(fault: Fault, part: Pick<FleetPart, 'name' | 'kind' | 'front'>): void {
  if (fits(fault, part)) return
  const why = fault.on.includes(part.kind)
    ? 'clients connect to it themselves, and they cannot be led elsewhere.'
    : `it is for ${partsInWords(fault.on)}.`
  throw new RungError('COMMAND_INVALID', `${fault.name} does not fit ${part.name}: ${why}`)
}

export function partsInWords(on: readonly Kind[]): string {
  return on.length === kinds.length ? 'any part' : on.join(', ')
}
