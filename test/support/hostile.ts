/** Values that code may throw, reject with or return, and that harm whoever looks at them without care. */

function refuse(): never {
  throw new Error('this must not be read')
}

const traps: ProxyHandler<object> = Object.fromEntries(
  Reflect.ownKeys(Reflect)
    .filter((name) => typeof name === 'string')
    .map((name) => [name, refuse]),
)

function withGetter(name: string, error: Error = new Error('its parts throw')): Error {
  return Object.defineProperty(error, name, { get: refuse, configurable: true })
}

function withPart(name: string, value: unknown): Error {
  return Object.defineProperty(new Error('its parts are odd'), name, { value, configurable: true })
}

/** A getter that answers once, and throws from then on. */
function withOneAnswer(): Error {
  let asked = 0
  return Object.defineProperty(new Error(), 'message', {
    get() {
      asked += 1
      return asked === 1 ? 'the first time' : refuse()
    },
  })
}

function cyclic(): Error {
  const [one, other] = [new Error('one'), new Error('other')]
  one.cause = other
  other.cause = one
  return one
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const odd = { toString: refuse, toJSON: refuse, valueOf: refuse, [Symbol.toPrimitive]: refuse }

export const hostile: Readonly<Record<string, () => unknown>> = {
  nothing: () => undefined,
  null: () => null,
  empty: () => '',
  zero: () => 0,
  symbol: () => Symbol('thrown'),
  bigint: () => 2n ** 64n,
  function: () => refuse,
  object: () => ({}),
  bare: () => Object.create(null),
  array: () => [undefined, 1n],
  odd: () => ({ ...odd }),
  proxy: () => new Proxy({}, traps),
  'proxy of an error': () => new Proxy(new Error('behind'), traps),
  'heir of a proxy': () => Object.create(new Proxy({}, traps)),
  revoked,
  'message throws': () => withGetter('message'),
  'stack throws': () => withGetter('stack'),
  'name throws': () => withGetter('name'),
  'code throws': () => withGetter('code'),
  'cause throws': () => withGetter('cause'),
  'statusCode throws': () => withGetter('statusCode'),
  'validation throws': () => withGetter('validation'),
  'then throws': () => Object.defineProperty({}, 'then', { get: refuse }),
  'message answers once': withOneAnswer,
  'message is a symbol': () => withPart('message', Symbol('message')),
  'message is an object': () => withPart('message', odd),
  'stack is an object': () => withPart('stack', odd),
  'name is a symbol': () => withPart('name', Symbol('name')),
  'code is an object': () => withPart('code', odd),
  'status is nonsense': () => withPart('status', 99),
  'statusCode is nonsense': () => withPart('statusCode', 404.5),
  'statusCode is a symbol': () => withPart('statusCode', Symbol('status')),
  'validation is nonsense': () => withPart('validation', 5),
  'a NUL': () => new Error('\0'),
  'half a letter': () => new Error(`${'x'.repeat(1_999)}😀`),
  'a very long message': () => new Error('x'.repeat(5_000_000)),
  'causes in a circle': cyclic,
  'many causes': () => {
    let error = new Error('the first')
    for (let n = 0; n < 10_000; n += 1) error = new Error('another', { cause: error })
    return error
  },
  'its cause is a proxy': () => new Error('outside', { cause: new Proxy({}, traps) }),
  frozen: () => Object.freeze(new Error('frozen')),
  'thrown twice': () => Object.assign(new Error('many'), { errors: [undefined, new Proxy({}, traps)] }),
}
