import { createHash } from 'node:crypto'
import { after, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf } from '../kernel/errors.ts'

/** A read model: what a command prints with `--json`. */
export interface View {
  /** @throws RungError */
  read(query: Query): Promise<unknown>
  /** The same at once, with less: what comes first where nothing is known yet. */
  glance?(query: Query): Promise<unknown>
  /** How often it is read while somebody looks at it. */
  readonly everyMs: number
}

export type Query = Readonly<Record<string, string>>

/** What a reader gets: the document, or why there is none. */
export type Reading = { readonly at: number; readonly view: unknown } | { readonly at: number; readonly error: Failure }

export interface Failure {
  readonly code: string
  readonly message: string
}

export function failureOf(error: unknown): Failure {
  return { code: isRungError(error) ? error.code : 'UNEXPECTED', message: messageOf(error) }
}

interface Watched {
  readonly readers: Set<(reading: Reading) => void>
  isRead: boolean
  last: Reading | undefined
  digest: string
}

/** Read models that are read at the same time: a console must not take a fleet's machine. */
const atOnceMax = 3
/** A reading counts among them for this long. */
const placeMsMax = 3_000
/** Different ones that are remembered, so that a page that is opened again shows at once what was known. */
const rememberedMax = 100

/** Reads views while somebody looks at them, once for all who look at the same one. Nothing is read while nobody looks. */
export class Feed {
  readonly #views: Readonly<Record<string, View>>
  readonly #watched = new Map<string, Watched>()
  readonly #closed = new AbortController()
  #waking = new AbortController()
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(views: Readonly<Record<string, View>>) {
    this.#views = views
  }

  /** Calls back with what is known, and then with each reading that differs from the one before. @returns a function that ends it */
  watch(name: string, query: Query, told: (reading: Reading) => void): () => void {
    const key = JSON.stringify([name, Object.entries(query).sort()])
    const watched = this.#watched.get(key) ?? { readers: new Set(), isRead: false, last: undefined, digest: '' }
    this.#watched.delete(key)
    this.#watched.set(key, watched)
    for (const [other, { readers }] of this.#watched) {
      if (this.#watched.size <= rememberedMax) break
      if (readers.size === 0 && other !== key) this.#watched.delete(other)
    }
    watched.readers.add(told)
    if (watched.last) told(watched.last)
    if (!watched.isRead) void this.#keepReading(watched, name, query)
    return () => {
      watched.readers.delete(told)
    }
  }

  /** Reads once. */
  read(name: string, query: Query): Promise<Reading> {
    return this.#reading(() => this.#views[name]!.read(query))
  }

  /** Reads what is watched now, and not only when its time comes: something was changed. */
  refresh(): void {
    this.#waking.abort()
    this.#waking = new AbortController()
  }

  #reading(read: () => Promise<unknown>): Promise<Reading> {
    return this.#run(read).then(
      (view) => ({ at: systemClock.now(), view }),
      (error) => ({ at: systemClock.now(), error: failureOf(error) }),
    )
  }

  /** Waits for its turn. One that takes long leaves its place to others: a server that hangs must not keep everything from being read. */
  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= atOnceMax) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.#running += 1
    let holds = true
    const leave = (): void => {
      if (!holds) return
      holds = false
      this.#running -= 1
      this.#waiting.shift()?.()
    }
    const forget = after(placeMsMax, leave)
    try {
      return await work()
    } finally {
      forget()
      leave()
    }
  }

  close(): void {
    this.#closed.abort()
    for (const { readers } of this.#watched.values()) readers.clear()
  }

  async #keepReading(watched: Watched, name: string, query: Query): Promise<void> {
    const isOver = () => watched.readers.size === 0 || this.#closed.signal.aborted
    const view = this.#views[name]!
    watched.isRead = true
    if (!watched.last && view.glance) tell(watched, await this.#reading(() => view.glance!(query)))
    while (!isOver()) {
      const { signal } = this.#waking
      tell(watched, await this.read(name, query))
      if (!isOver()) await sleep(view.everyMs, AbortSignal.any([signal, this.#closed.signal])).catch(() => {})
    }
    watched.isRead = false
  }
}

function tell(watched: Watched, reading: Reading): void {
  const text = JSON.stringify('view' in reading ? reading.view : reading.error)
  const digest = createHash('sha256').update(text).digest('base64')
  if (digest === watched.digest) return
  watched.digest = digest
  watched.last = reading
  for (const told of watched.readers) told(reading)
}
