import { hash, verify } from '@node-rs/argon2'
import { type RouteLimit, RungError } from 'rung'

/** OWASP Password Storage Cheat Sheet: argon2id, 19 MiB, two passes, one lane. */
const cost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }

/**
 * A hash costs about 20 ms of a core and 19 MiB. The gate keeps a flood of logins from taking the whole machine: so many
 * at once, so many waiting, the rest is asked to come back.
 */
const runningMax = 2
const waitingMax = 100

/** Each new account is a hash: one address must not make all others wait for theirs. */
export const signUpLimit: RouteLimit = { max: 100, per: '1m', by: 'address' }

// rung: one process is enough, because the gate guards the cores and the memory of its own process
let running = 0
// rung: one process is enough, because these requests wait in this process
const waiting: (() => void)[] = []

async function gated<T>(work: () => Promise<T>): Promise<T> {
  if (running < runningMax) running += 1
  else {
    if (waiting.length >= waitingMax)
      throw new RungError('HTTP_OVERLOADED', 'Too many logins at once. Try again in a moment.')
    await new Promise<void>((resolve) => waiting.push(resolve)) // whoever finishes hands its place on
  }
  try {
    return await work()
  } finally {
    const next = waiting.shift()
    if (next) next()
    else running -= 1
  }
}

export function hashPassword(password: string): Promise<string> {
  return gated(() => hash(password, cost))
}

/** Of a password that nobody knows, with the same cost as a real one. */
const dummy = '$argon2id$v=19$m=19456,t=2,p=1$k/5Z7Q9DRgbredHjGR8BcQ$tewbqO2Ju1lWujmsuRvMWpPwX9eBODGWk3QcpbrvkvU'

/** Takes as long for an unknown user as for a known one, so that the time does not tell which names exist. */
export async function checkPassword(known: string | undefined, password: string): Promise<boolean> {
  const matches = await gated(() => verify(known ?? dummy, password))
  return known !== undefined && matches
}
