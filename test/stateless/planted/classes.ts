class Stock {
  private readonly left = new Map<string, number>() // found: state
  #sold = 0 // found: state
  readonly limit = 3
  readonly known: string[] = []

  constructor(names: readonly string[]) {
    for (const name of names) this.left.set(name, this.limit)
  }

  learn(name: string): this {
    this.known.push(name)
    return this
  }

  take(name: string): number {
    this.left.set(name, (this.left.get(name) ?? 0) - 1)
    this.#sold += 1
    return new Basket().put(name) + this.#sold
  }
}

/** One for each request. */
class Basket {
  readonly items: string[] = []
  put(name: string): number {
    return this.items.push(name)
  }
}

export const stock = new Stock(['a']).learn('b')

// found below: state
export const box = {
  items: [] as string[],
  put(item: string): void {
    this.items.push(item)
  },
}
