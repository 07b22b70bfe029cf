import assert from 'node:assert/strict'

/** The ledger (`apps/ledger`), as its clients use it. */

interface At {
  url: string
}

/** What became of it: `201`, `503 DATA_UNAVAILABLE`, `no answer`. */
export async function post({ url }: At, id: string): Promise<string> {
  try {
    const answer = await fetch(`${url}/entries`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id, body: 'x'.repeat(200) }),
      signal: AbortSignal.timeout(20_000),
    })
    const text = await answer.text()
    if (answer.status === 201) return '201'
    return `${answer.status} ${(JSON.parse(text) as { code?: string }).code}`
  } catch {
    return 'no answer'
  }
}

export async function write(at: At, id: string): Promise<void> {
  assert.equal(await post(at, id), '201')
}

/** All that is there, each as a whole. */
export async function entriesIn({ url }: At): Promise<{ id: string; length: number }[]> {
  const answer = await fetch(`${url}/entries`)
  assert.equal(answer.status, 200)
  const rows = (await answer.json()) as { id: string; length: number; received: boolean }[]
  assert.deepEqual(
    rows.filter(({ received }) => !received),
    [],
    'a transaction is there by half',
  )
  return rows
}

export async function idsIn(at: At): Promise<string[]> {
  return (await entriesIn(at)).map(({ id }) => id)
}
