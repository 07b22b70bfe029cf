import { createHash } from 'node:crypto'

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
