export interface BoundedOptions<V> {
  bytesMax: number
  onLeave?(key: string, value: V): void
}
export class Bounded<V> {
  readonly #map = new Map<string, { value: V; bytes: number }>()
  readonly #options: BoundedOptions<V>
  bytes = 0
  constructor(options: BoundedOptions<V>) {
    this.#options = options
  }
  get size(): number {
    return this.#map.size
  }
  get(key: string): V | undefined {
    return this.#map.get(key)?.value
  }
  peek(key: string): V | undefined {
    return this.#map.get(key)?.value
  }
  set(key: string, value: V, bytes: number): void {
    this.delete(key)
    this.#map.set(key, { value, bytes: bytes + 200 })
    this.bytes += bytes + 200
    for (const first of this.#map.keys()) {
      if (this.bytes <= this.#options.bytesMax) break
      this.delete(first)
    }
  }
  delete(key: string): boolean {
    const one = this.#map.get(key)
    if (!one) return false
    this.#map.delete(key)
    this.bytes -= one.bytes
    this.#options.onLeave?.(key, one.value)
    return true
  }
  clear(): void {
    for (const key of [...this.#map.keys()]) this.delete(key)
  }
  keys(): IterableIterator<string> {
    return this.#map.keys()
  }
}
