import { createHash } from 'node:crypto'

export interface Migration {
  module: string
  name: string
  text: string
  /** SHA-256 of the text with `\n` line ends. */
  checksum: string
  reads: readonly string[]
}

/** A migration of Rung's own tables, which lie in the schema `rung`. It is part of the code, because it belongs to its version. */
export function systemMigration(name: string, text: string): Migration {
  return { module: 'rung', name, text, checksum: checksumOf(text), reads: [] }
}

export function checksumOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
