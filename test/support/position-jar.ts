/** The cookies with positions of one client that sends many requests at the same time: the furthest of each name. */
export class PositionJar {
  readonly #kept = new Map<string, { value: string; place: string }>()

  get header(): Record<string, string> {
    const cookie = Array.from(this.#kept, ([name, { value }]) => `${name}=${value}`).join('; ')
    return cookie === '' ? {} : { cookie }
  }

  note(headers: Headers): void {
    for (const text of headers.getSetCookie()) {
      const [, name, value] = /^(rung-position|rung-seen)=([^;]*)/.exec(text) ?? []
      if (name === undefined || value === undefined) continue
      const places = /main:(\w+)\/(\w+)\/(\w+)/.exec(decodeURIComponent(value))!.slice(1)
      const place = places.map((part) => part.padStart(8, '0')).join()
      if (place > (this.#kept.get(name)?.place ?? '')) this.#kept.set(name, { value, place })
    }
  }
}
