/** As much as `file-type` looks at (its `reasonableDetectionSizeInBytes`). */
export const sampleBytes = 4100

export const unknownType = 'application/octet-stream'

/** Bytes that no text has (WHATWG MIME Sniffing, "binary data byte"). */
const binary = /[\u0000-\u0008\u000b\u000e-\u001a\u001c-\u001f]/

/**
 * From the first bytes: what `file-type` knows by its signature; else `text/plain` for UTF-8. HTML, SVG, JSON and CSV
 * have no signature and are text: served as such, no browser runs them.
 */
export async function contentTypeOf(sample: Uint8Array): Promise<string> {
  const { fileTypeFromBuffer } = await import('file-type')
  const found = await fileTypeFromBuffer(sample).catch(() => undefined) // a sample may end in the middle of what it parses
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

/** `allowed` holds types such as `image/png`, and ranges such as `image/*`. */
export function isAllowed(contentType: string, allowed: readonly string[]): boolean {
  const [essence] = contentType.split(';', 1) // `audio/ogg; codecs=opus`
  const family = `${contentType.split('/', 1)[0]}/*`
  return allowed.some((type) => type === essence || type === family)
}
