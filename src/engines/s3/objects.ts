import { webcrypto } from 'node:crypto'
import { systemClock } from '../../kernel/clock.ts'
import { elementOf, elementsOf, type S3Client, S3Failure } from './client.ts'

/** What Rung itself keeps in a bucket of files. No module begins with a dot. */
export const ownFolder = '.rung/'

export interface ObjectEntry {
  key: string
  size: number
  modifiedAt: Date
}

/**
 * Lists objects whose keys begin with `prefix`, in the order of their keys, and says whether there are more.
 * @throws S3Failure
 */
export async function listObjects(
  client: S3Client,
  prefix: string,
  { after, limit }: { after: string | undefined; limit: number },
): Promise<{ objects: ObjectEntry[]; more: boolean }> {
  const objects: ObjectEntry[] = []
  for (let from = after, more = true; more; from = objects.at(-1)?.key ?? from) {
    const { text } = await client.ask({
      method: 'GET',
      query: {
        'list-type': '2',
        'encoding-type': 'url',
        prefix,
        'max-keys': String(Math.min(1000, limit - objects.length)),
        ...(from !== undefined && { 'start-after': from }),
      },
    })
    const page = elementsOf(text, 'Contents').map(entryOf)
    objects.push(...page)
    more = elementOf(text, 'IsTruncated') === 'true' && page.length > 0
    if (objects.length >= limit) return { objects, more }
  }
  return { objects, more: false }
}

function entryOf(xml: string): ObjectEntry {
  return {
    key: decodedKey(elementOf(xml, 'Key')!),
    size: Number(elementOf(xml, 'Size')),
    modifiedAt: dateOf(elementOf(xml, 'LastModified')),
  }
}

/** Decodes a key of a listing with `encoding-type=url`, where a blank may be a plus sign. */
export function decodedKey(key: string): string {
  return decodeURIComponent(key.replaceAll('+', '%20'))
}

export function dateOf(text: string | undefined): Date {
  return new Date(text ?? systemClock.now())
}

/** Returns `undefined` where there is no such object. */
export async function orAbsent<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask()
  } catch (error) {
    // An answer to HEAD has no code.
    if (error instanceof S3Failure && error.status === 404 && ['NoSuchKey', 'HTTP 404'].includes(error.code))
      return undefined
    throw error
  }
}

/** Outside of the event loop's thread: 8 MiB take some ms. */
export async function sha256Of(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)).toString('hex')
}
