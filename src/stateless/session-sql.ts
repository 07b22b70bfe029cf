import type { Tree } from './tree.ts'

/** A statement that needs the session of an earlier one, or leaves something in its session. */
export interface SessionStatement {
  /** Absolute. */
  file: string
  /** From 1. */
  line: number
  /** `LISTEN`, `SET`. */
  what: string
}

/** Behind a pooler each transaction may have another session: PgBouncer, "SQL feature map for pooling modes". */
const kinds: readonly [what: string, pattern: RegExp][] = [
  ['SET', /^\s*set\s+(session\s+)?(?!local\b|transaction\b|constraints\b)\w[\w.]*\s*(=|to\s)/i],
  ['LISTEN', /^\s*(un)?listen\s+["*\w]/i],
  ['PREPARE', /^\s*prepare\s+\w+\s*(\(|as\s)/i],
  [
    'a temporary table',
    /\bcreate\s+(local\s+)?temp(orary)?\s+(table|view|sequence)\b(?![\s\S]*\bon\s+commit\s+drop\b)/i,
  ],
  ['an advisory lock of the session', /\bpg_(try_)?advisory_(lock|unlock)\w*\s*\(/i],
  ['a cursor WITH HOLD', /\bdeclare\s+\w+[\s\S]*\bwith\s+hold\b/i],
  ['LOAD', /^\s*load\s+'/i],
]

/** Finds such statements in the texts of an app. Texts that are put together from pieces are seen as their pieces. Pure. */
export function sessionStatements(trees: readonly Tree[]): SessionStatement[] {
  return trees.flatMap((tree) =>
    tree.nodes.flatMap((node) => {
      const text =
        node.type === 'TemplateElement'
          ? node.value.raw
          : node.type === 'Literal' && typeof node.value === 'string'
            ? node.value
            : ''
      const found = text === '' ? undefined : kinds.find(([, pattern]) => pattern.test(text))
      return found ? [{ file: tree.source.file, line: tree.lineOf(node), what: found[0] }] : []
    }),
  )
}
