import { callFindings } from './calls.ts'
import type { Kept } from './finding.ts'
import { graphOf } from './graph.ts'
import { stateFindings } from './state.ts'
import type { Tree } from './tree.ts'

export interface Sources {
  readonly trees: readonly Tree[]
  /** Files that could not be parsed, and why. */
  readonly unread: readonly { file: string; problem: string }[]
  /** The file that a specifier in another one leads to, if it belongs to the app. */
  fileOf(file: string, specifier: string): string | undefined
}

/**
 * What an app keeps in one process, found in its sources. Pure.
 * What it does not see: changes through another name for the same value (`const list = map.get(key); list.push(…)`), containers that a function
 * returns, what packages keep, and fields of a parent class.
 */
export function examine({ trees, unread, fileOf }: Sources): Kept[] {
  const found: Kept[] = unread.map(notLookedAt)
  const graph = graphOf(trees, ({ source: { file } }, specifier) => fileOf(file, specifier))
  const byFile = new Map(trees.map((tree) => [tree.source.file, exceptions(tree)]))
  for (const one of [...stateFindings(graph), ...callFindings(graph)]) {
    const exception = byFile.get(one.file)!(one.line)
    if (exception === undefined) found.push(one)
    if (exception === '') found.push({ ...one, ...withoutReason })
  }
  const order = (a: Kept, b: Kept) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1)
  return found.sort(order)
}

const withoutReason = {
  kind: 'no-reason',
  what: 'The exception "rung: one process is enough" has no reason.',
  remedy: 'Write: // rung: one process is enough, because …',
} as const

function notLookedAt({ file, problem }: { file: string; problem: string }): Kept {
  return {
    ...{ kind: 'unread', severity: 'note', file, line: 1, changedAt: [] },
    what: `This file was not looked at: ${problem}`,
    remedy: 'Write what Node itself can run: no enum, namespace, decorator or parameter property.',
  }
}

/** By line: the reason why what is found there may stay, empty if none is said. A comment counts for its own line and the one below it. */
function exceptions({ parsed, lineOf, source }: Tree): (line: number) => string | undefined {
  const reasons = new Map<number, string>()
  for (const comment of parsed.comments) {
    const [, reason] = /^[\s*]*rung: one process is enough\b(?:,? *because\b)?([\s\S]*)/.exec(comment.value) ?? []
    if (reason === undefined) continue
    const first = lineOf(comment)
    const last = lineOf({ start: comment.end - 1 })
    const text = reason.replace(/[\s.…]+/g, ' ').trim()
    for (let line = first; line <= last; line += 1) reasons.set(line, text)
    let below = last + 1
    const lines = source.text.split('\n')
    while (/^\s*(\/\/|\/?\*)/.test(lines[below - 1] ?? '')) below += 1 // the comment may go on
    reasons.set(below, text)
  }
  return (line) => reasons.get(line)
}
