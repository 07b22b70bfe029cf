import assert from 'node:assert/strict'
import type { PositionJar } from './position-jar.ts'
import { until } from './process.ts'

/** The ledger (`apps/ledger`), as its clients use it. */

export interface At {
  url: string
}

/** What became of it: `201`, `503 DATA_UNAVAILABLE`, `no answer: ECONNRESET …`. */
export async function post({ url }: At, id: string, jar?: Pick<PositionJar, 'header' | 'note'>): Promise<string> {
  try {
    const answer = await fetch(`${url}/entries`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...jar?.header },
      body: JSON.stringify({ id, body: 'x'.repeat(200) }),
      signal: AbortSignal.timeout(20_000),
    })
    jar?.note(answer.headers)
    const text = await answer.text()
    if (answer.status === 201) return '201'
    return `${answer.status} ${(JSON.parse(text) as { code?: string }).code}`
  } catch (error) {
    const { cause = error } = error as Error
    const { code, name, message } = cause as NodeJS.ErrnoException
    return `no answer: ${code ?? name} ${message}`
  }
}

export async function write(at: At, id: string): Promise<void> {
  assert.equal(await post(at, id), '201')
}

/** All that is there, each as a whole. */
export async function entriesIn({ url }: At, jar?: PositionJar): Promise<{ id: string; length: number }[]> {
  const answer = await fetch(`${url}/entries`, { headers: jar?.header ?? {} })
  assert.equal(answer.status, 200)
  const rows = (await answer.json()) as { id: string; length: number; received: boolean }[]
  assert.deepEqual(
    rows.filter(({ received }) => !received),
    [],
    'a transaction is there by half',
  )
  return rows
}

export async function idsIn(at: At, jar?: PositionJar): Promise<string[]> {
  return (await entriesIn(at, jar)).map(({ id }) => id)
}

let count = 0

/**
 * Writes, and reads the entry `first`, while `body` runs. What was answered with 201 is there in the end.
 * @returns the outcomes of the other writes and reads; a write that was done twice is a conflict
 */
export async function underLoad(at: At, body: () => Promise<unknown>): Promise<{ writes: string[]; reads: string[] }> {
  const acknowledged: string[] = []
  const writes: string[] = []
  const reads: string[] = []
  let over = false
  async function writer() {
    while (!over) {
      count += 1
      const id = `w${count}`
      const outcome = await post(at, id)
      if (outcome === '201') acknowledged.push(id)
      else writes.push(outcome)
    }
  }
  async function reader() {
    while (!over) {
      const outcome = await fetch(`${at.url}/entries/first`).then(
        async (answer) => `${answer.status} ${await answer.text()}`,
        (error: Error) => `no answer: ${error.message}`,
      )
      if (!outcome.startsWith('200 ')) reads.push(outcome)
    }
  }
  const load = Promise.all([writer(), writer(), reader(), reader()])
  try {
    await until(() => acknowledged.length > 10, 'the load runs')
    await body()
    const now = acknowledged.length
    await until(() => acknowledged.length > now + 10, 'the load goes on')
  } finally {
    over = true
    await load
  }
  const ids = new Set(await idsIn(at))
  assert.deepEqual(
    acknowledged.filter((id) => !ids.has(id)),
    [],
    'what was answered is there',
  )
  return { writes, reads }
}
