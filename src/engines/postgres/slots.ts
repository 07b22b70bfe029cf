import type { Client } from './client.ts'
import { slotOf } from './recipe.ts'

/**
 * The replication slots of replicas, on the primary. A slot keeps the log that its replica has not received; the settings of
 * the primary bound that in size and in time.
 */

/** Slots that Rung made for replicas. */
const ours = String.raw`slot_type = 'physical' and slot_name ~ '^rung_postgres_\d+$'`

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
 * would stop vacuum on the primary until it is back. A copy of a slot keeps the same log, but no rows.
 */
export async function releaseRows(primary: Client): Promise<void> {
  const { rows } = await primary.query(
    `select slot_name from pg_replication_slots
      where ${ours} and not active and xmin is not null and wal_status <> 'lost' and invalidation_reason is null
        and inactive_since < now() - interval '1 minute'`,
  )
  for (const { slot_name: slot } of rows) {
    await primary.query(`select pg_copy_physical_replication_slot($1, 'rung_release', true)`, [slot])
    await primary.query('select pg_drop_replication_slot($1)', [slot])
    await primary.query(`select pg_copy_physical_replication_slot('rung_release', $1, false)`, [slot])
    await primary.query(`select pg_drop_replication_slot('rung_release')`)
  }
}
