import { readdir, rmdir } from 'node:fs/promises'
import path from 'node:path'
import { codeOf } from '../../engines/disk/atomic.ts'

/**
 * Maps keys to paths. A file system may ignore case, change Unicode's form and refuse names above 255 bytes, and both `a` and `a/b` may be
 * keys. So names consist of `a-z 0-9 _ - .` with `%xx` for any other byte, and their last character tells what they are:
 *
 *     avatars/Ann.png   avatars+ / %41nn.png      `+`: a folder
 *     a long name       xxx…xxx~ / rest           `~`: the first 200 characters of a name that continues below
 *
 * No name begins with a dot, so `.` and `..` cannot occur, and no key can be `.drafts`.
 */
const pieceChars = 200

function namesOf(segment: string): string[] {
  const names = ['']
  for (const byte of Buffer.from(segment)) {
    if (names.at(-1)!.length >= pieceChars) names.push('')
    const last = names.length - 1
    const char = String.fromCharCode(byte)
    const plain = /[a-z0-9_-]/.test(char) || (char === '.' && names[last] !== '')
    names[last] += plain ? char : `%${byte.toString(16).padStart(2, '0')}`
  }
  return [...names.slice(0, -1).map((name) => `${name}~`), names.at(-1)!]
}

function bytesOf(name: string): Buffer {
  const text = name.replace(/[+~]$/, '').replace(/%([0-9a-f]{2})/g, (_, hex) => String.fromCharCode(Number(`0x${hex}`)))
  return Buffer.from(text, 'latin1')
}

function folderOf(root: string, segments: readonly string[]): string {
  return path.join(
    root,
    ...segments.flatMap((segment) => {
      const names = namesOf(segment)
      return [...names.slice(0, -1), `${names.at(-1)}+`]
    }),
  )
}

export function pathOf(root: string, key: string): string {
  const segments = key.split('/')
  return path.join(folderOf(root, segments.slice(0, -1)), ...namesOf(segments.at(-1)!))
}

interface Found {
  key: string
  path: string
}

/** Yields keys in the order of their bytes. A folder is read as a whole when its turn comes. */
export async function* walk(root: string, prefix: string, after: string | undefined): AsyncGenerator<Found> {
  const lead = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  const start = folderOf(root, lead.split('/').slice(0, -1))
  const wanted = { prefix: Buffer.from(prefix), after: after === undefined ? undefined : Buffer.from(after) }
  yield* below(start, Buffer.from(lead), wanted)
}

interface Wanted {
  prefix: Buffer
  after: Buffer | undefined
}

async function* below(folder: string, lead: Buffer, wanted: Wanted): AsyncGenerator<Found> {
  const entries = (await entriesOf(folder, lead)).filter((entry) => isWanted(entry, wanted))
  // A folder's bytes end with a slash, which sorts it among its keys: `a-b`, `a/b`, `a0`.
  for (const entry of entries.sort((a, b) => a.bytes.compare(b.bytes))) {
    if (entry.isFolder) yield* below(entry.path, entry.bytes, wanted)
    else yield { key: entry.bytes.toString(), path: entry.path }
  }
}

function isWanted({ bytes, isFolder }: Entry, { prefix, after }: Wanted): boolean {
  if (!begins(bytes, prefix) && !(isFolder && begins(prefix, bytes))) return false
  return after === undefined || bytes.compare(after) > 0 || (isFolder && begins(after, bytes))
}

function begins(bytes: Buffer, start: Buffer): boolean {
  return bytes.subarray(0, start.length).equals(start)
}

interface Entry {
  bytes: Buffer
  path: string
  isFolder: boolean
}

async function entriesOf(folder: string, lead: Buffer): Promise<Entry[]> {
  const found = await readdir(folder, { withFileTypes: true }).catch((error) => {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  })
  const entries: Entry[] = []
  for (const item of found) {
    const { name } = item
    if (name.startsWith('.')) continue // Rung's or the system's
    const at = path.join(folder, name)
    const bytes = Buffer.concat([lead, bytesOf(name)])
    if (name.endsWith('~')) entries.push(...(await entriesOf(at, bytes)))
    else if (name.endsWith('+')) entries.push({ bytes: Buffer.concat([bytes, slash]), path: at, isFolder: true })
    else if (item.isFile()) entries.push({ bytes, path: at, isFolder: false })
  }
  return entries
}

const slash = Buffer.from('/')

/** Removes empty folders up to the root. A writer that needs one creates it again. */
export async function prune(folder: string, root: string): Promise<void> {
  for (let at = folder; at.startsWith(root + path.sep); at = path.dirname(at)) {
    const failure = await rmdir(at).catch((error: unknown) => error)
    if (failure && codeOf(failure) !== 'ENOENT') return
  }
}
