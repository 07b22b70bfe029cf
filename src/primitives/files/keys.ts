import { RungError } from '../../kernel/errors.ts'

/**
 * A byte of a key takes up to three in a path of the disk, and macOS allows 1024 for the whole path; S3 allows 1024 for a key.
 */
export const keyBytesMax = 256

/** Control characters, what XML cannot hold (S3's listings are XML), and the backslash, which some take for a slash. */
const forbidden = /[\u0000-\u001f\u007f-\u009f\\\ufffe\uffff]/

/**
 * The key in its one form: Unicode NFC, so that what looks alike is alike.
 * @throws FILES_KEY_INVALID
 */
export function checkedKey(key: string): string {
  const normal = checkedText(key, 'key')
  for (const segment of normal.split('/')) {
    if (segment === '') throw invalid(key, 'has an empty part; write it like avatars/7.png, with no slash at its ends')
    if (segment === '.' || segment === '..') throw invalid(key, `has the part "${segment}"; parts must be names`)
  }
  return normal
}

/** Any beginning of a key, or nothing. */
export function checkedPrefix(prefix: string): string {
  return prefix === '' ? prefix : checkedText(prefix, 'prefix')
}

function checkedText(text: string, what: 'key' | 'prefix'): string {
  if (typeof text !== 'string') throw new RungError('FILES_KEY_INVALID', `A file's ${what} must be text.`)
  if (!text.isWellFormed()) throw invalid(text.toWellFormed(), 'is not well-formed Unicode')
  const normal = text.normalize('NFC')
  if (forbidden.test(normal)) throw invalid(text, 'holds a control character or a backslash; remove it')
  const bytes = Buffer.byteLength(normal)
  if (bytes > keyBytesMax) throw invalid(text, `has ${bytes} bytes; ${keyBytesMax} are allowed`)
  return normal
}

function invalid(key: string, why: string): RungError {
  return new RungError('FILES_KEY_INVALID', `The key ${JSON.stringify(key.slice(0, 100))} ${why}.`)
}
