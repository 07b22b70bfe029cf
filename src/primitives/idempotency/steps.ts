import { deserialize, serialize } from 'node:v8'
import { RungError } from '../../kernel/errors.ts'
import { sqlState } from '../data/errors.ts'
import { type BeginningWrite, expectationFailed, type Ride, type ScopeRule, type WriteRule } from '../data/rides.ts'
import { tellMoment } from './channels.ts'
import type { Holding, Records } from './contract.ts'

/**
 * The outermost writes of a request with a key, numbered as they begin. What a write returned is kept in its own transaction: a later attempt
 * gets that value, and the write does not run again.
 *
 * A later attempt that makes other writes must not get the value of the wrong one. So the write at each number is also known by its module and
 * the name that its author gave it (`step`), and an attempt is refused where they differ. The usual reason is a decision by a read outside the
 * write, which sees what the first attempt has written. A module's only write in a request needs no name; a second one without a name of its
 * own is refused.
 */
export class Steps implements ScopeRule {
  readonly #reserve: (database: string) => Promise<HeldRecord>
  readonly #held = new Map<string, Promise<HeldRecord>>()
  readonly #committed = new Map<number, Step>()
  readonly #begun: string[] = []
  #refused = false

  /** @param reserve reserves the request's record in a further database, before the first write there */
  constructor(database: string, held: HeldRecord, reserve: (database: string) => Promise<HeldRecord>) {
    this.#reserve = reserve
    this.#held.set(database, Promise.resolve(held))
    this.#add(held)
  }

  /** @throws IDEMPOTENCY_STEP_NAME if the request has begun a write of this name, IDEMPOTENCY_DIVERGED if an earlier attempt made another */
  async begin({ database, module = '', step = '' }: BeginningWrite): Promise<WriteRule> {
    const name = `${module} ${step}`
    if (this.#begun.includes(name)) throw this.#refuse(sameName(module, step))
    const n = this.#begun.push(name)
    const held = await this.heldIn(database.name)
    const known = this.#committed.get(n)
    if (known && known.name !== name) {
      throw this.#refuse(diverged(`its write ${n} is not the one that was committed`))
    }
    return {
      recall: () => known && { value: known.value },
      ride: (value) => this.#ride(held, { n, name, value }),
    }
  }

  /** The request's record in a database. One that an earlier attempt may have written in is asked for before the handler runs. */
  heldIn(database: string): Promise<HeldRecord> {
    const known = this.#held.get(database)
    if (known) return known
    const reserving = this.#reserve(database).then(
      (held) => {
        this.#add(held)
        return held
      },
      (error) => {
        throw this.#refuse(error)
      },
    )
    this.#held.set(database, reserving)
    return reserving
  }

  /** A write was refused, so the attempt has no answer that could be kept, whatever its handler makes of the error. */
  get refused(): boolean {
    return this.#refused
  }

  #refuse(error: Error): Error {
    this.#refused = true
    return error
  }

  #add({ steps }: HeldRecord): void {
    for (const bytes of steps) {
      const step = deserialize(bytes) as Step
      this.#committed.set(step.n, step)
    }
  }

  /** @throws IDEMPOTENCY_DIVERGED if this attempt did not make a write that an earlier one has committed */
  checkComplete(): void {
    for (const n of this.#committed.keys()) {
      if (n > this.#begun.length) throw diverged(`its write ${n} was not made again`)
    }
  }

  #ride({ records, holding }: HeldRecord, step: Step): Ride {
    const statement = records.step(holding, toBytes(step))
    tellMoment('before-commit', holding)
    return {
      statement,
      failed: (error) => (sqlState(error) === expectationFailed ? this.#refuse(takenOver(error)) : error),
      committed: () => tellMoment('committed', holding),
    }
  }
}

/** A record that this process holds in one database, with the steps that earlier tries have committed there. */
export interface HeldRecord {
  records: Records
  holding: Holding
  steps: readonly Uint8Array[]
}

interface Step {
  n: number
  /** `<module> <step>` */
  name: string
  value: unknown
}

function toBytes(step: Step): Uint8Array {
  try {
    return serialize(step)
  } catch (cause) {
    throw new RungError(
      'IDEMPOTENCY_VALUE',
      'data.write returned a value that cannot be stored for a repetition of the request (a function, for example), and nothing was committed. Return plain values.',
      { cause },
    )
  }
}

/** The request's record has a new holder. */
export function takenOver(cause?: unknown): RungError {
  return new RungError(
    'IDEMPOTENCY_IN_FLIGHT',
    'The request took longer than its lease, and another request with its Idempotency-Key has taken over. Send it again for the answer.',
    { cause, facts: { retryAfterS: 1 } },
  )
}

function sameName(module: string, step: string): RungError {
  const which = step === '' ? 'two writes without a name' : `two writes named "${step}"`
  return new RungError(
    'IDEMPOTENCY_STEP_NAME',
    `A request with an Idempotency-Key made ${which} in module "${module}", which a repetition could not tell apart. Name each write: data.write(fn, { step: 'charge' }).`,
  )
}

/** A repetition makes other writes than an earlier attempt. */
export function diverged(how: string): RungError {
  return new RungError(
    'IDEMPOTENCY_DIVERGED',
    `The request was repeated, and ${how}. Make decisions inside data.write, so that every attempt makes the same writes in the same order.`,
  )
}
