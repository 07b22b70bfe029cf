import { createHash } from 'node:crypto'
import { open, rename } from 'node:fs/promises'
import path from 'node:path'

/** Returns JSON that carries its own SHA-256, so that an incomplete file is recognised. */
export function seal(content: object): string {
  return `${JSON.stringify({ ...content, checksum: checksumOf(content) }, null, 2)}\n`
}

/** Returns the content, or undefined if the text is incomplete or was changed. */
export function unseal<T extends object>(text: string): T | undefined {
  try {
    const { checksum, ...content } = JSON.parse(text) as T & { checksum: unknown }
    return checksum === checksumOf(content) ? (content as unknown as T) : undefined
  } catch {
    return undefined
  }
}

function checksumOf(content: object): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('hex')
}

/** Writes a file that exists completely or not at all, also after a power failure: draft, sync, rename. */
export async function writeWhole(file: string, data: string | Uint8Array): Promise<void> {
  const draft = `${file}.draft`
  const handle = await open(draft, 'w', 0o600)
  try {
    await handle.writeFile(data)
    await handle.datasync()
  } finally {
    await handle.close()
  }
  await rename(draft, file)
}

/** Makes new and renamed files of a folder survive a power failure. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}

export async function writeWholeSynced(file: string, data: string | Uint8Array): Promise<void> {
  await writeWhole(file, data)
  await syncFolder(path.dirname(file))
}
