import { type Kind, type Operation, timesOf, type Value } from './operation.ts'

/**
 * Tells a short history step by step, one line for each operation, in the order in which they began.
 *
 * @param from Times count from when the first operation of this history began. Default: of the told ones.
 * @example
 * 0.000 s to 0.012 s: a writes tea to cart 7 on web-1
 * 0.020 s to 0.024 s: a reads no value of cart 7 on web-2
 */
export function tell(operations: readonly Operation[], from: readonly Operation[] = operations): string[] {
  const time = timesOf(from)
  return operations
    .toSorted((a, b) => a.beganAt - b.beganAt)
    .map((operation) => {
      const { beganAt, endedAt, session, kind, node, token, outcome } = operation
      const times =
        endedAt === Number.POSITIVE_INFINITY ? `from ${time(beganAt)}` : `${time(beganAt)} to ${time(endedAt)}`
      const where = `${node === undefined ? '' : ` on ${node}`}${token === undefined ? '' : ` with token ${token}`}`
      return `${times}: ${session} ${words[kind](operation)}${where}${outcomes[outcome]}`
    })
}

/** So many operations are told of a longer history, at its beginning and at its end. */
const toldMax = 20

/** Like `tell`, for people: of a long history the beginning and the end. */
export function tellFew(...of: Parameters<typeof tell>): string[] {
  const steps = tell(...of)
  const left = steps.length - toldMax
  if (left <= 0) return steps
  return [
    ...steps.slice(0, toldMax / 2),
    `… ${left.toLocaleString('en')} more in the history`,
    ...steps.slice(-toldMax / 2),
  ]
}

const outcomes = { ok: '', fail: ', refused', info: ', outcome unknown' }

const words: Record<Kind, (operation: Operation) => string> = {
  write: ({ value, key, version, basedOn }) =>
    `writes ${value === undefined ? '' : `${value} to `}${key}${version === undefined ? '' : ` as version ${version}`}${basedOn === undefined ? '' : `, based on ${basedOn ?? 'no value'}`}`,
  read: (read) => `reads ${seenBy(read)}${read.key}${howRead(read)}`,
  add: ({ value, key }) => `adds ${value} to ${key}`,
  remove: ({ value, key }) => `removes ${value} from ${key}`,
  list: ({ key, values }) => `lists ${key}${listed(values)}`,
  send: ({ key, value, outcome }) => `sends ${key}${outcome === 'ok' ? `, answered with ${value}` : ''}`,
  effects: ({ values }) => `looks at the effects${listed(values)}`,
  change: ({ key, amounts }) => `changes ${key}${listedAmounts(amounts, true)}`,
  levels: ({ key, amounts }) => `looks at ${key}${listedAmounts(amounts, false)}`,
  publish: ({ value, key }) => `publishes ${value} with the key ${key}`,
  deliver: ({ value, key }) => `gets ${value} with the key ${key}`,
  drain: ({ values }) => `has no more to do${values ? `, with the effects${listed(values)}` : ''}`,
  take: ({ key, limit }) => `takes one of ${key}${limit ? `, of ${limit.max} in ${limit.windowMs / 1_000} s` : ''}`,
  claim: ({ key }) => `claims ${key}`,
  complete: ({ key }) => `completes ${key}`,
}

function seenBy({ outcome, value, version }: Operation): string {
  if (outcome !== 'ok') return ''
  return value === undefined ? `version ${version} of ` : `${value ?? 'no value'} of `
}

const howRead = ({ fresh, cached, staleMsMax }: Operation) =>
  `${fresh ? ' from the primary' : ''}${cached ? ' from the cache' : ''}${staleMsMax === undefined ? '' : `, at most ${staleMsMax / 1_000} s old`}`

const listedMax = 8

function listed(values: readonly Value[] = []): string {
  const more = values.length - listedMax
  return `: ${values.slice(0, listedMax).join(', ') || 'none'}${more > 0 ? ` and ${more} more` : ''}`
}

function listedAmounts(amounts: Readonly<Record<string, number>> = {}, isChange: boolean): string {
  return listed(
    Object.entries(amounts).map(([name, amount]) => `${name} ${isChange && amount > 0 ? '+' : ''}${amount}`),
  )
}
