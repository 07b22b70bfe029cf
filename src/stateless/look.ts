import { statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { examine, type Sources } from './examine.ts'
import type { Kept } from './finding.ts'
import { loadParser } from './parse.ts'
import { type SessionStatement, sessionStatements } from './session-sql.ts'
import { type Tree, treeOf } from './tree.ts'

/**
 * Looks at the files of an app, from its entry over its imports; packages are not looked at.
 * @param entries absolute
 */
export async function lookAtSources(...entries: readonly string[]): Promise<Kept[]> {
  return examine({ ...(await readSources(entries)), fileOf })
}

/** Looks in the same files for statements that need a session of their own. */
export async function lookForSessions(...entries: readonly string[]): Promise<SessionStatement[]> {
  return sessionStatements((await readSources(entries)).trees)
}

async function readSources(entries: readonly string[]): Promise<Omit<Sources, 'fileOf'>> {
  const parse = await loadParser()
  const trees: Tree[] = []
  const unread: { file: string; problem: string }[] = []
  const files = new Set(entries)
  for (const file of files) {
    const source = { file, text: await readFile(file, 'utf8') }
    const parsed = parse(source)
    if ('problem' in parsed) {
      unread.push({ file, problem: parsed.problem })
      continue
    }
    const tree = treeOf(source, parsed)
    trees.push(tree)
    for (const specifier of tree.imports) {
      const found = fileOf(file, specifier)
      if (found !== undefined) files.add(found)
    }
  }
  return { trees, unread }
}

/** Relative imports, and those that the package of the app names itself (`#config`). */
function fileOf(file: string, specifier: string): string | undefined {
  if (!/^(\.\.?\/|#|file:|\/)/.test(specifier)) return undefined
  const name = specifier.replace(/[?].*$/, '')
  try {
    const direct = name.startsWith('file:') ? fileURLToPath(name) : path.resolve(path.dirname(file), name)
    const found = statSync(direct, { throwIfNoEntry: false })?.isFile() ? direct : createRequire(file).resolve(name)
    return /\.[mc]?[jt]s$/.test(found) && !found.includes(`${path.sep}node_modules${path.sep}`) ? found : undefined
  } catch {
    return undefined // Node itself complains about it
  }
}
