import { type Client, type ConnectionConfig, connectReplication } from './client.ts'
import { slotOf } from './recipe.ts'

/**
 * The replication slots of replicas, on the primary. A slot keeps the log that its replica has not received; the settings of
 * the primary bound that in size and in time.
 */

/** Slots that Rung made for replicas. */
const ours = String.raw`slot_type = 'physical' and slot_name ~ '^rung_postgres(_\d+)?$'`

/**
 * Makes sure that a replica has a usable slot. A new one keeps the log from now on. One whose log is gone already is replaced: the
 * replica may still be ahead of what is gone.
 */
export async function ensureSlot(primary: Client, name: string): Promise<void> {
  await primary.query(
    `select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where slot_name = $1 and not active and (wal_status = 'lost' or invalidation_reason is not null)`,
    [slotOf(name)],
  )
  await primary.query(
    `select pg_create_physical_replication_slot($1, immediately_reserve => true)
      where not exists (select from pg_replication_slots where slot_name = $1)`,
    [slotOf(name)],
  )
}

/** Makes the slot anew, for a copy that begins: an old slot may keep more than it needs, or less. */
export async function renewSlot(primary: Client, name: string): Promise<void> {
  await dropSlot(primary, name)
  await ensureSlot(primary, name)
}

export async function dropSlot(primary: Client, name: string): Promise<void> {
  await primary.query(
    `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active`,
    [slotOf(name)],
  )
  await primary.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [
    slotOf(name),
  ])
}

/** Drops the slots of all replicas but these. One that is in use is left. */
export async function dropOtherSlots(primary: Client, names: readonly string[]): Promise<string[]> {
  const { rows } = await primary.query(
    `select slot_name, pg_drop_replication_slot(slot_name) from pg_replication_slots
      where ${ours} and not active and slot_name <> all ($1)`,
    [names.map(slotOf)],
  )
  return rows.map(({ slot_name }) => slot_name)
}

/**
 * Makes the slots of replicas that are away keep only log. What a replica reported last (`hot_standby_feedback`) stays in its slot, and
 * would stop vacuum on the primary until it is back. Only a client that streams from the slot can change that: it reports
 * that it needs no rows. (PostgreSQL documentation, "Streaming Replication Protocol", hot standby feedback message.)
 */
export async function releaseRows(primary: Client, connection: ConnectionConfig, awayMs = 60_000): Promise<void> {
  const { rows } = await primary.query(
    `select slot_name, restart_lsn from pg_replication_slots
      where ${ours} and not active and xmin is not null and wal_status <> 'lost' and invalidation_reason is null
        and inactive_since < now() - $1 * interval '1 ms'`,
    [awayMs],
  )
  for (const { slot_name: slot, restart_lsn: from } of rows) await reportNoRows(connection, slot, from)
}

/** `h`, a time, and twice a transaction id with its epoch; 0 is none. */
const noRows = Buffer.from(['h'.charCodeAt(0), ...new Uint8Array(24)])

async function reportNoRows(connection: ConnectionConfig, slot: string, from: string): Promise<void> {
  const client = await connectReplication(connection)
  const { promise: begun, resolve } = Promise.withResolvers<void>()
  const streamed = client.stream(`START_REPLICATION SLOT ${slot} PHYSICAL ${from}`, () => resolve())
  streamed.catch(() => {}).finally(resolve) // its replica is back, or it was ended below
  await begun
  client.send(noRows)
  await client.end()
}
