import { RungError } from '../../kernel/errors.ts'

/**
 * A byte of a key takes up to three bytes in a path on the disk, and macOS allows 1024 for the whole path. S3 allows 1024 for a key.
 */
export const keyBytesMax = 256

/** Control characters, characters that XML (S3's listings) cannot contain, and the backslash, which some systems take for a slash. */
const forbidden = /[\u0000-\u001f\u007f-\u009f\\\ufffe\uffff]/

/**
 * Returns the key in Unicode NFC, so that keys that look the same are the same.
 * @throws FILES_KEY_INVALID
 */
export function checkedKey(key: string): string {
  const normal = checkedText(key, 'key')
  for (const segment of normal.split('/')) {
    if (segment === '')
      throw invalid(key, 'has an empty part. Write it like avatars/7.png, without a slash at its ends')
    if (segment === '.' || segment === '..') throw invalid(key, `has the part "${segment}". Use names`)
  }
  return normal
}

/** Returns any beginning of a key, also an empty one, in the same form. @throws FILES_KEY_INVALID */
export function checkedPrefix(prefix: string): string {
  return prefix === '' ? prefix : checkedText(prefix, 'prefix')
}

function checkedText(text: string, what: 'key' | 'prefix'): string {
  if (typeof text !== 'string') throw new RungError('FILES_KEY_INVALID', `A file's ${what} must be text.`)
  if (!text.isWellFormed()) throw invalid(text.toWellFormed(), 'is not well-formed Unicode')
  const normal = text.normalize('NFC')
  if (forbidden.test(normal)) throw invalid(text, 'contains a control character or a backslash. Remove it')
  const bytes = Buffer.byteLength(normal)
  if (bytes > keyBytesMax) throw invalid(text, `has ${bytes} bytes, more than ${keyBytesMax}. Use a shorter one`)
  return normal
}

function invalid(key: string, why: string): RungError {
  return new RungError('FILES_KEY_INVALID', `The key ${JSON.stringify(key.slice(0, 100))} ${why}.`)
}
