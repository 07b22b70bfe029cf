/** The number of bytes that `file-type` needs (its `reasonableDetectionSizeInBytes`). */
export const sampleBytes = 4100

const unknownType = 'application/octet-stream'

/** Bytes that do not occur in text (WHATWG MIME Sniffing, "binary data byte"). */
const binary = /[\u0000-\u0008\u000b\u000e-\u001a\u001c-\u001f]/

/**
 * Returns the type of the first bytes: by its signature if `file-type` knows it, otherwise `text/plain` for UTF-8. HTML, SVG, JSON and CSV
 * have no signature and are `text/plain`, so no browser runs them.
 */
export async function contentTypeOf(sample: Uint8Array): Promise<string> {
  const { fileTypeFromBuffer } = await import('file-type')
  const found = await fileTypeFromBuffer(sample).catch(() => undefined) // a sample may end in the middle of a structure
  return found?.mime ?? (isText(sample) ? 'text/plain' : unknownType)
}

function isText(sample: Uint8Array): boolean {
  if (sample.length === 0) return false
  try {
    // `stream`: the sample may end within a character.
    return !binary.test(new TextDecoder('utf-8', { fatal: true }).decode(sample, { stream: true }))
  } catch {
    return false
  }
}

/** Returns whether a type is one of `allowed`: types such as `image/png`, or ranges such as `image/*`. */
export function isAllowed(contentType: string, allowed: readonly string[]): boolean {
  const [essence] = contentType.split(';', 1) // `audio/ogg; codecs=opus`
  const family = `${contentType.split('/', 1)[0]}/*`
  return allowed.some((type) => type === essence || type === family)
}
