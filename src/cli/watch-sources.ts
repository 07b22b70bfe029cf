import { createHash } from 'node:crypto'
import { type FSWatcher, readdirSync, readFileSync, realpathSync, statSync, watch } from 'node:fs'
import path from 'node:path'
import { after, sleep, systemClock } from '../kernel/clock.ts'

/** Folders whose changes mean nothing to an app. Those whose name begins with a dot are skipped as well. */
const skipped = new Set(['node_modules', 'dist', 'coverage'])
/** What an app is made of. A log that it writes beside itself must not restart it. */
const sources = /\.([cm]?[jt]sx?|json|sql|env|html|css|svg|md|ya?ml|toml)$/
/** An editor or a checkout saves in several steps: changes are reported when nothing has changed for this long, */
const quietMs = 80
/** or at the latest after this long. */
const reportWithinMs = 2_000
/** How often files are looked at where the system reports no changes, because its watches are used up or unsupported. */
const lookEveryMs = 1_000
/** Larger files are compared by size and time, without reading them. */
const readBytesMax = 1024 ** 2

export interface WatchOptions {
  /** Folders that are watched with everything below them. */
  roots: readonly string[]
  /** Folders and files below them that are left out, such as the data directory. */
  except: readonly string[]
  /** Receives the files whose content has changed, at least one. */
  onChange(files: readonly string[]): void
}

/**
 * Reports changes of the source files below some folders. Folders alone are watched, never files: many programs save by
 * renaming a new file over the old one, and a watch of the old one would go with it. Any event leads to a look at all files,
 * and only different content counts.
 * @returns a function that ends it
 */
export function watchSources({ roots, except, onChange }: WatchOptions): () => void {
  const watchers = new Map<string, FSWatcher>()
  const changed = new Set<string>()
  let changedAt = 0
  let files = new Map<string, Seen>()
  let looking: (() => void) | undefined
  const over = new AbortController()
  let polls = false

  function lookSoon(): void {
    looking ??= after(quietMs, () => {
      looking = undefined
      look()
    })
  }

  /** Where nothing else is left to wait for, this keeps the process alive. */
  async function poll(): Promise<void> {
    for (;;) {
      await sleep(lookEveryMs, over.signal)
      look()
    }
  }

  function startPolling(): void {
    if (!polls) poll().catch(() => {}) // rejects when it is over
    polls = true
  }

  function look(): void {
    const before = files
    files = lookAtAll()
    const differing = [...files].filter(([file, { content }]) => before.get(file)?.content !== content)
    const gone = [...before.keys()].filter((file) => !files.has(file))
    const news = [...differing.map(([file]) => file), ...gone]
    if (changed.size === 0) changedAt = systemClock.ticks()
    for (const file of news) changed.add(file)
    if (changed.size === 0) return
    if (news.length > 0 && systemClock.ticks() - changedAt < reportWithinMs) {
      lookSoon() // it may go on
      return
    }
    const told = [...changed]
    changed.clear()
    onChange(told)
  }

  function lookAtAll(): Map<string, Seen> {
    for (;;) {
      const found = findSources(roots, except, files)
      // What was written into a folder before it was watched is found by another look.
      if (watchFolders(found.folders)) return found.files
    }
  }

  /** Returns whether all of them had been watched before. */
  function watchFolders(folders: ReadonlyMap<string, string>): boolean {
    for (const [id, watcher] of watchers) {
      if (folders.has(id)) continue
      watchers.delete(id)
      watcher.close()
    }
    let known = true
    for (const [id, folder] of folders) {
      if (watchers.has(id)) continue
      try {
        const watcher = watch(folder, (event, name) => {
          if (event === 'rename' || name === null || sources.test(name)) lookSoon()
        })
        watcher.on('error', lookSoon)
        watchers.set(id, watcher)
        known = false
      } catch {
        startPolling()
      }
    }
    if (folders.size === 0) startPolling() // the folder itself is away, and may come back
    return known
  }

  files = lookAtAll()
  return () => {
    looking?.()
    over.abort()
    for (const watcher of watchers.values()) watcher.close()
  }
}

/** What a file was at the last look. */
interface Seen {
  /** Changes with every write: while it stays the same the content is not read again. */
  stamp: string
  content: string
}

interface Found {
  files: Map<string, Seen>
  /** Paths by what identifies the folder, since another one may come to stand under the same path. */
  folders: Map<string, string>
}

function findSources(roots: readonly string[], except: readonly string[], before: ReadonlyMap<string, Seen>): Found {
  const found: Found = { files: new Map(), folders: new Map() }
  const real = roots.map(realOf)

  function addFolder(folder: string): boolean {
    const stats = statSync(folder, { bigint: true, throwIfNoEntry: false })
    if (!stats?.isDirectory()) return false
    const id = `${stats.dev}:${stats.ino}:${stats.birthtimeNs}`
    if (found.folders.has(id)) return false // by a link, or a folder of its own within another one
    found.folders.set(id, folder)
    return true
  }

  function walk(folder: string): void {
    if (except.includes(folder) || !addFolder(folder)) return
    for (const entry of entriesOf(folder)) {
      const file = path.join(folder, entry.name)
      const isLink = entry.isSymbolicLink()
      const stats = attempt(() => statSync(file, { bigint: true }))
      if (stats?.isDirectory()) {
        if (skipped.has(entry.name) || entry.name.startsWith('.')) continue
        // A link to a folder around the app would lead through everything else in there.
        if (isLink && real.some((root) => isWithin(root, realOf(file)))) continue
        walk(file)
      } else if (stats?.isFile() && sources.test(entry.name) && !except.includes(file)) {
        if (isLink) addFolder(path.dirname(realOf(file)))
        const stamp = `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`
        const seen = before.get(file)
        found.files.set(file, seen?.stamp === stamp ? seen : { stamp, content: contentOf(file, stats.size, stamp) })
      }
    }
  }

  for (const root of roots) walk(root)
  return found
}

function contentOf(file: string, size: bigint, stamp: string): string {
  if (size > readBytesMax) return stamp
  return attempt(() => createHash('sha256').update(readFileSync(file)).digest('base64')) ?? stamp
}

function entriesOf(folder: string) {
  return attempt(() => readdirSync(folder, { withFileTypes: true })) ?? []
}

function realOf(file: string): string {
  return attempt(() => realpathSync(file)) ?? file
}

export function isWithin(file: string, folder: string): boolean {
  return file === folder || file.startsWith(folder.endsWith(path.sep) ? folder : `${folder}${path.sep}`)
}

/** Files come and go while they are looked at. */
function attempt<T>(fn: () => T): T | undefined {
  try {
    return fn()
  } catch {
    return undefined
  }
}
