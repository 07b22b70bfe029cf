/** Loads together what is asked for in one turn of the event loop. */
export function batched<Id, Value>(
  load: (ids: readonly Id[]) => PromiseLike<readonly Value[]>,
): (id: Id) => Promise<Value> {
  let waiting: { id: Id; resolve(value: Value): void; reject(error: unknown): void }[] = []
  async function flush(): Promise<void> {
    const all = waiting
    waiting = []
    try {
      const values = await load(all.map(({ id }) => id))
      for (const [index, { resolve }] of all.entries()) resolve(values[index]!)
    } catch (error) {
      for (const { reject } of all) reject(error)
    }
  }
  return (id) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void flush())
      waiting.push({ id, resolve, reject })
    })
}
