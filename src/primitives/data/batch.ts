import { isRungError } from '../../kernel/errors.ts'
import { furthest, nowhere } from '../../kernel/position.ts'
import { currentScope, runInScope, Scope } from '../../kernel/scope.ts'
import type { SqlTag } from './sql.ts'

/** Values for `keys`, in their order. */
export type BatchLoad<Key, Value> = (sql: SqlTag, keys: readonly Key[]) => PromiseLike<readonly Value[]>

interface Waiting<Key, Value> {
  key: Key
  scope: Scope | undefined
  resolve(value: Value): void
  reject(error: unknown): void
}

/** More keys than this are asked for in several statements. */
const keysMax = 500

/**
 * Look-ups that are asked for in one turn of the event loop, by whichever requests, become one statement. A round trip
 * costs more than the row it fetches, so a busy server does less; an idle one waits for nothing.
 *
 * It reads after the last of them was asked, so none sees anything older than it would have alone: it runs at the
 * positions of all its askers together. Where a value cannot be used, each look-up is repeated alone: a bad key harms
 * nobody else.
 * Source of the idea: Lee Byron, Nick Schrock, "DataLoader" (2010), without its cache.
 */
export function batcher<Key, Value>(
  load: BatchLoad<Key, Value>,
  read: <T>(fn: (sql: SqlTag) => PromiseLike<T>) => Promise<T>,
): (key: Key) => Promise<Value> {
  let waiting: Waiting<Key, Value>[] = []

  function flush(): void {
    const all = waiting
    waiting = []
    for (let start = 0; start < all.length; start += keysMax) void run(all.slice(start, start + keysMax))
  }

  async function run(group: readonly Waiting<Key, Value>[]): Promise<void> {
    const scope = joint(group)
    try {
      const values = await runInScope(scope, () =>
        read((sql) =>
          load(
            sql,
            group.map(({ key }) => key),
          ),
        ),
      )
      for (const [index, { scope: asker, resolve }] of group.entries()) {
        if (asker && scope.position !== nowhere) asker.position = furthest(asker.position, scope.position)
        resolve(values[index]!)
      }
    } catch (error) {
      // Only a value can be one key's own fault. Anything else is the same for all, and must not be asked for again by each.
      if (group.length > 1 && isRungError(error, 'DATA_VALUE')) for (const one of group) void run([one])
      else for (const one of group) one.reject(error)
    }
  }

  return (key) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(flush)
      waiting.push({ key, scope: currentScope(), resolve, reject })
    })
}

/** One asker's own scope, or one for all of them: as far as the furthest has seen, until the last must be done. */
function joint(group: readonly { scope: Scope | undefined }[]): Scope {
  const [first] = group
  if (group.length === 1 && first!.scope) return first!.scope
  const scope = new Scope('task', first?.scope?.id ?? 'batch', `batch of ${group.length}`)
  scope.deadlineAt = Math.max(...group.map(({ scope: asker }) => asker?.deadlineAt ?? Number.POSITIVE_INFINITY))
  scope.position = group.reduce((seen, { scope: asker }) => (asker ? furthest(seen, asker.position) : seen), nowhere)
  return scope
}
