import type { FileInfo } from './contract.ts'

export type StoredFacts = Pick<FileInfo, 'size' | 'sha256' | 'contentType' | 'metadata'>

/** A page: the content behind it stays aligned. The facts take 1.5 KiB at most. */
export const headerBytes = 4096

const magic = 'rung file 1\n'

/** A line that says what this is, the facts as JSON, blanks. */
export function encodeHeader(facts: StoredFacts): Buffer {
  const header = Buffer.alloc(headerBytes, ' ')
  header.write(`${magic}${JSON.stringify(facts)}`)
  header.write('\n', headerBytes - 1)
  return header
}

export function decodeHeader(header: Uint8Array): StoredFacts | undefined {
  const text = Buffer.from(header).toString()
  if (header.length !== headerBytes || !text.startsWith(magic)) return undefined
  try {
    return JSON.parse(text.slice(magic.length)) as StoredFacts
  } catch {
    return undefined
  }
}
