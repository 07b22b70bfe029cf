import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'

export interface Exchanged {
  status: number
  headers: Headers
  text: string
}

/** A request, as often as it is needed. */
export interface Exchange {
  method: string
  path: string
  /** It has an `Idempotency-Key`, so it happens once however often it is sent. */
  hasKey: boolean
  send(): Promise<Exchanged>
}

/** No fault lasts for longer. */
const patientMs = 60_000

/**
 * A client during failures: it sends again what may be sent again, and nothing else.
 * - An answer with `Retry-After` says that nothing has happened: any request may be sent again.
 * - Without an answer, and after one that says that the outcome is unknown, what happens once however often it is sent: GET, PUT, DELETE, and POST
 *   with an `Idempotency-Key`.
 */
export class Patience {
  /** How many requests were sent again, by why. */
  readonly repeated: Record<string, number> = {}
  /** Requests that failed and must not be sent again: the promise is that there are none. */
  readonly failed: string[] = []
  /** POSTs without a key that were in a process which was killed. Nobody can tell what became of them, and the answer says so. */
  readonly unknown: string[] = []

  /** @param isOnce whether a POST to this path happens once however often it is sent, also without a key */
  async answer(exchange: Exchange, isOnce: boolean): Promise<{ answer: Exchanged; uncertain: boolean }> {
    const { method, path, hasKey } = exchange
    const mayRepeat = method !== 'POST' || hasKey || isOnce
    const giveUpAt = performance.now() + patientMs
    let [sent, uncertain] = [false, false]
    for (;;) {
      const answer = await exchange.send().catch((error: Error) => error)
      const why = failureOf(answer, hasKey && sent)
      sent = true
      if (why === undefined) return { answer: answer as Exchanged, uncertain }
      const told = `${method} ${path}: ${answer instanceof Error ? String(answer.cause ?? answer) : `${answer.status} ${answer.text.slice(0, 200)}`}`
      const isRead = method === 'GET' || method === 'HEAD'
      if (why === 'unknown' && isRead) this.failed.push(told)
      if (why === 'unknown' && !mayRepeat) this.unknown.push(told)
      if (performance.now() > giveUpAt) this.failed.push(`${told}, after ${patientMs} ms`)
      if (performance.now() > giveUpAt || (why === 'unknown' && isRead)) {
        if (answer instanceof Error) throw answer
        return { answer, uncertain }
      }
      uncertain ||= why !== 'not done'
      this.repeated[why] = (this.repeated[why] ?? 0) + 1
      await wait(50)
    }
  }
}

function failureOf(answer: Exchanged | Error, isRepeated: boolean): string | undefined {
  if (answer instanceof Error) return 'no answer'
  const { status, headers, text } = answer
  // The process that had it is gone or still busy; its record says which in a moment.
  if (status === 409 && isRepeated && /IDEMPOTENCY_IN_FLIGHT|"Idempotency-Key"/.test(text)) return 'in flight'
  if (status < 502) return undefined
  return headers.has('retry-after') ? 'not done' : 'unknown'
}

/** Conduit's API, as a patient client uses it: what happens once, and what an answer means after an earlier one was lost. */
export class PatientConduit extends Patience {
  /** By token: a change of the password ends it, and a new title changes an article's address. */
  readonly #users = new Map<string, { email: string; username: string }>()

  /** Headers to send with a request. */
  headersFor(method: string, path: string): Record<string, string> {
    const takesKey = method === 'POST' && /^\/articles(\/[^/]+\/comments)?$/.test(path)
    return takesKey ? { 'idempotency-key': randomUUID() } : {}
  }

  async exchange(
    exchange: Exchange,
    { content, token = '' }: { content?: string | undefined; token?: string | undefined },
    ask: (method: string, path: string, content?: string) => Promise<Exchanged>,
  ): Promise<Exchanged & { uncertain: boolean }> {
    const { method, path } = exchange
    const { answer, uncertain } = await this.answer(exchange, /\/(follow|favorite)$|^\/users\/login$/.test(path))
    const wanted = uncertain && /^\/users?$/.test(path) ? (JSON.parse(content ?? '{}').user ?? {}) : {}
    const isRegistration = method === 'POST' && [409, 422].includes(answer.status) && wanted.email
    const isNewPassword = method === 'PUT' && answer.status === 401 && wanted.password
    if (isRegistration || isNewPassword) {
      // Perhaps the earlier one was done. Then they are known by what it said.
      const user = { email: wanted.email ?? this.#users.get(token)?.email, password: wanted.password }
      const send = () => ask('POST', '/users/login', JSON.stringify({ user }))
      const { answer: known } = await this.answer({ ...exchange, send }, true)
      const isTheirs = known.status === 200 && JSON.parse(known.text).user.username === wanted.username
      if (isRegistration && isTheirs) return { ...known, status: 201, uncertain }
      if (isNewPassword && known.status === 200) return { ...known, uncertain }
    }
    const author = this.#users.get(token)?.username
    if (uncertain && method === 'PUT' && answer.status === 404 && author !== undefined) {
      // Perhaps the earlier one has given the article another title, and with it another slug.
      const look = (path: string) =>
        this.answer({ method: 'GET', path, hasKey: false, send: () => ask('GET', path) }, true)
      const { answer: listed } = await look(`/articles?limit=100&author=${encodeURIComponent(author)}`)
      const { articles } = JSON.parse(listed.text) as { articles: { title: string; slug: string; updatedAt: string }[] }
      const [renamed] = articles
        .filter(({ title }) => title === JSON.parse(content ?? '{}').article?.title)
        .sort((a, b) => b.updatedAt.localeCompare(a.updatedAt))
      if (renamed) return { ...(await look(`/articles/${renamed.slug}`)).answer, uncertain }
    }
    if (answer.status < 300 && /^\/users?(\/login)?$/.test(path)) {
      const { user } = JSON.parse(answer.text)
      this.#users.set(user.token, user)
    }
    return { ...answer, uncertain }
  }
}
