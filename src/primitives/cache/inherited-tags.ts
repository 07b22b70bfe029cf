import type { Scope } from '../../kernel/scope.ts'

/** Collects the tags of the entries that a load, or a call of another process, reads from the cache, by its scope. */
export class InheritedTags {
  readonly #byScope = new WeakMap<Scope, Set<string>>()

  begin(scope: Scope): Set<string> {
    const names = new Set<string>()
    this.#byScope.set(scope, names)
    return names
  }

  /** Does nothing if the scope is neither that of a load nor that of a call. */
  add(scope: Scope | undefined, names: () => readonly string[]): void {
    if (scope?.kind !== 'task' && scope?.kind !== 'call') return
    const collected = this.#byScope.get(scope)
    if (collected) for (const name of names()) collected.add(name)
  }
}
