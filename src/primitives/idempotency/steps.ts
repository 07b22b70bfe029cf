import { deserialize, serialize } from 'node:v8'
import { RungError } from '../../kernel/errors.ts'
import { sqlState } from '../data/errors.ts'
import { type BeginningWrite, expectationFailed, type Ride, type WriteRule } from '../data/rides.ts'
import { type Moment, tellMoment } from './channels.ts'
import type { Held, Records } from './contract.ts'
import { digestOf } from './key.ts'

/**
 * The outermost writes of a repeated request, numbered as they begin. What each returned is kept in the transaction that it was:
 * a later try gets that value, and the write does not run again.
 *
 * A try that takes another way than the one before must not be given the value of another write. So each step has a label, made
 * from the text of the function: where it is not the same the request is refused. The usual reason is a decision that was
 * read outside the write, and now comes out differently because of what the first try has written.
 */
export class Steps implements WriteRule {
  readonly #records: Records
  readonly #held: Held
  readonly #done = new Map<number, Step>()
  #begun = 0

  constructor(records: Records, held: Held, done: readonly Uint8Array[]) {
    this.#records = records
    this.#held = held
    for (const bytes of done) {
      const step = deserialize(bytes) as Step
      this.#done.set(step.n, step)
    }
  }

  begin({ module, fn }: BeginningWrite): WriteRule {
    const n = this.#begun++
    const label = digestOf(module ?? '', String(fn))
      .toString('base64url')
      .slice(0, 16)
    const known = this.#done.get(n)
    if (known && known.label !== label) throw diverged(`write ${n + 1} is not the one that was committed`)
    return {
      recall: () => known && { value: known.value },
      ride: (value) => this.#ride({ n, label, value }),
    }
  }

  ride(): Ride | undefined {
    return undefined // each write has a rule of its own
  }

  /** @throws IDEMPOTENCY_DIVERGED when something was committed that this try did not come by */
  checkComplete(): void {
    for (const n of this.#done.keys()) {
      if (n >= this.#begun) throw diverged(`write ${n + 1} was committed, and this time did not come`)
    }
  }

  #ride(step: Step): Ride {
    const statement = this.#records.step(this.#held, toBytes(step))
    this.#tell('before-commit')
    return {
      statement,
      failed: (error) => (sqlState(error) === expectationFailed ? handedOn(error) : error),
      committed: () => this.#tell('committed'),
    }
  }

  #tell(at: Moment): void {
    tellMoment(at, this.#held)
  }
}

interface Step {
  n: number
  label: string
  value: unknown
}

function toBytes(step: Step): Uint8Array {
  try {
    return serialize(step)
  } catch (cause) {
    throw new RungError(
      'IDEMPOTENCY_VALUE',
      'data.write returned something that cannot be kept for a repetition of the request (a function, a class). Return plain values; nothing was committed.',
      { cause },
    )
  }
}

export function handedOn(cause?: unknown): RungError {
  return new RungError(
    'IDEMPOTENCY_IN_FLIGHT',
    'The request took longer than its lease, and another one with its Idempotency-Key goes on. Ask again for its answer.',
    { cause, facts: { retryAfterS: 1 } },
  )
}

function diverged(what: string): RungError {
  return new RungError(
    'IDEMPOTENCY_DIVERGED',
    `The request was repeated, and ${what}. Decide inside data.write what it does, so that a repetition takes the same way.`,
  )
}
