let count = 0 // found: state
export let total = 0 // found: state
export const names: string[] = []
const options = { retries: 3, seen: new Set<string>() } // found: state
const list = [1, 2, 3]
var old: string | undefined // found: state
const sum = list.reduce((all, one) => all + one, 0)

/** Called only while the files are loaded. */
export function register(name: string): void {
  names.push(name)
}

export function counter(): number {
  count += 1
  ;[total] = [sum]
  options.seen.add('x')
  old = String(count)
  ;(globalThis as { everybody?: number }).everybody = count // found: state
  const own = [...list]
  own.push(count)
  return own.length + (old?.length ?? 0)
}

export class Registry {
  static made = 0 // found: state
  static readonly kinds = new Map<string, number>() // found: state
  static readonly limit = 10
  constructor() {
    Registry.made++
    Registry.kinds.set('a', 1)
  }
}
export const build = () => new Registry()
