/** For test/kernel/threads.test.ts: does as it is told. */
export default function compute(asked: Record<string, unknown>): unknown {
  if (asked.endless) for (;;);
  if (asked.exits) process.exit(1)
  if (asked.memory) for (const all: unknown[] = []; ; ) all.push(new Array(1_000_000).fill(all.length))
  if (asked.throws === 'undefined') throw undefined
  if (asked.throws === 'error') throw new Error('as told')
  if (asked.throws === 'proxy') {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    throw proxy
  }
  if (asked.returns) return () => {}
  return Number(asked.double) * 2
}
