import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connectOnce } from '../../../src/engines/postgres/client.ts'
import { machineTicks, sleep } from '../../../src/kernel/clock.ts'
import { seededRandom } from '../../../src/kernel/random.ts'
import { type Members, startMembers } from '../../support/members.ts'
import { sendTo, until } from '../../support/process.ts'
import { openNodeOn } from '../../support/session-reads.ts'
import { askOne, untilReplicaReads } from '../../support/standby.ts'
import { type Counting, counter, counterTable, datasOf } from '../counters.ts'
import type { Workload } from '../workload.ts'

const sessions = 6
/** So long the primary goes on while replicas are cut off. After 500 ms nobody would wait for them any more. */
const aloneMs = 150
const frozenMs = 3_000

/** The primary is killed while sessions count on two nodes, just after one replica or all were cut off from it. */
const failover: Workload = {
  promises: [
    'acknowledged-writes',
    'read-your-writes',
    'monotonic-reads',
    'writes-follow-reads',
    'single-writer',
    'no-lost-update',
  ],
  async open() {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    const members = await startMembers(dir, { count: 3 })
    const first = await members.primary()
    await askOne(members.connection(first), counterTable)
    const nodes = Array.from({ length: 2 }, () => openNodeOn(members.names.map((name) => members.connection(name))))
    for (const node of nodes) await untilReplicaReads(node)
    const datas = datasOf(nodes)
    return {
      async run(seed, recorder) {
        const names = ['a', 'b', 'c'].map((name) => `${name} ${seed}`)
        await members.untilSynchronous()
        const counting: Counting = { recorder, random: seededRandom(seed), datas, names, losesPrimary: true }
        let over = false
        const counted = Array.from({ length: sessions }, async (_, n) => {
          const step = counter(`session ${n}`, counting)
          while (!over) await step()
        })
        try {
          await sleep(200)
          await losePrimary(members, harms[seed % harms.length]!)
          await sleep(300)
        } finally {
          over = true
          await Promise.all(counted)
        }
        const look = counter('the last', counting)
        for (let n = 0; n < 10; n += 1) await look('fresh read')
      },
      async close() {
        for (const node of nodes) await node.close()
        await members.stop()
        await rm(dir, { recursive: true, force: true })
      },
    }
  },
}
export default failover

/** One replica, or all, are cut off; or one, and the other does not answer when it is asked. */
const harms = ['cuts one', 'cuts all', 'cuts one and freezes the other'] as const

async function losePrimary(members: Members, harm: (typeof harms)[number]): Promise<void> {
  const primary = await members.primary()
  const [cut, other] = members.names.filter((name) => name !== primary)
  const doomed = await members.processes(primary)
  const frozen = harm === 'cuts one and freezes the other' ? await members.processes(other!) : []
  const names = harm === 'cuts all' ? [cut, other] : [cut]
  const client = await connectOnce(members.admin(primary))
  // A replica comes back at once the first time, and then after 500 ms.
  const end = `select pg_terminate_backend(pid) from pg_stat_replication where application_name = any($1)`
  for (const until = machineTicks() + aloneMs; machineTicks() < until; await sleep(5)) await client.query(end, [names])
  client.on('error', () => {})
  for (const pid of frozen) sendTo(pid, 'SIGSTOP')
  for (const pid of doomed) sendTo(pid, 'SIGKILL')
  client.end().catch(() => {})
  if (frozen.length > 0) await sleep(frozenMs)
  for (const pid of frozen) sendTo(pid, 'SIGCONT')
  const isBack = async () => {
    const name = await members.primary()
    return (
      members.member(name).leads() &&
      askOne(members.connection(name), 'select not pg_is_in_recovery()').catch(() => false)
    )
  }
  await until(isBack as () => Promise<boolean>, () => `there is a primary: ${members.notes.join('; ')}`)
}
