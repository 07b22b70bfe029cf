import type { Lsn } from '../kernel/position.ts'

/** Messages of the streaming replication protocol (PostgreSQL documentation, chapter 54.4). */

export type FromServer =
  | { kind: 'log'; start: Lsn; bytes: Buffer }
  /** The server ends the connection if a wanted reply does not arrive. */
  | { kind: 'alive'; replyWanted: boolean }

/** The returned bytes are a view: copy what you keep. */
export function readMessage(chunk: Buffer): FromServer | undefined {
  const type = chunk[0]
  if (type === 0x77 /* w */) return { kind: 'log', start: chunk.readBigUInt64BE(1), bytes: chunk.subarray(25) }
  if (type === 0x6b /* k */) return { kind: 'alive', replyWanted: chunk[17] === 1 }
  return undefined
}

/** Microseconds between the Unix epoch and Postgres' epoch, 2000-01-01. */
const postgresEpoch = 946_684_800_000_000n

/** Tells the server what is written and what is safe on disk; it keeps what is not safe yet. */
export function standbyStatus(written: Lsn, safe: Lsn, now: number, replyWanted = false): Buffer {
  const message = Buffer.alloc(34)
  message[0] = 0x72 // r
  message.writeBigUInt64BE(written, 1)
  message.writeBigUInt64BE(safe, 9)
  message.writeBigUInt64BE(0n, 17) // nothing is applied here
  message.writeBigInt64BE(BigInt(Math.round(now)) * 1000n - postgresEpoch, 25)
  message[33] = replyWanted ? 1 : 0
  return message
}

/** Messages of `BASE_BACKUP`: the name of an archive, pieces of it, then pieces of the list of files. */
export type FromBackup =
  | { kind: 'archive'; name: string }
  | { kind: 'piece'; bytes: Buffer }
  | { kind: 'manifest' }
  | { kind: 'progress'; bytes: number }

export function readBackupMessage(chunk: Buffer): FromBackup | undefined {
  const type = chunk[0]
  if (type === 0x6e /* n */) return { kind: 'archive', name: chunk.toString('utf8', 1, chunk.indexOf(0, 1)) }
  if (type === 0x64 /* d */) return { kind: 'piece', bytes: chunk.subarray(1) }
  if (type === 0x6d /* m */) return { kind: 'manifest' }
  if (type === 0x70 /* p */) return { kind: 'progress', bytes: Number(chunk.readBigUInt64BE(1)) }
  return undefined
}
