import module from 'node:module'
import type { Comment, Program } from 'acorn'
import { messageOf } from '../kernel/errors.ts'

export interface Source {
  /** Absolute. */
  readonly file: string
  readonly text: string
}

export interface Parsed {
  readonly program: Program
  readonly comments: readonly Comment[]
}

type Parse = (source: Source) => Parsed | { problem: string }

/** Loads the parser, which only a look at sources needs (docs/adr/0035-stateless-check.md). */
export async function loadParser(): Promise<Parse> {
  const { parse } = await import('acorn')
  return ({ file, text }) => {
    try {
      const comments: Comment[] = []
      const program = parse(/\.[mc]?ts$/.test(file) ? withoutTypes(text) : text, {
        ecmaVersion: 'latest',
        sourceType: /\.c[jt]s$/.test(file) ? 'commonjs' : 'module',
        allowHashBang: true,
        onComment: comments,
      })
      return { program, comments }
    } catch (error) {
      return { problem: messageOf(error).split('\n')[0]! }
    }
  }
}

/** Blanks take the place of types, so that every position stays. Node warns that the function is experimental; its users cannot act on that. */
function withoutTypes(text: string): string {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return module.stripTypeScriptTypes(text)
  } finally {
    process.emitWarning = emitWarning
  }
}
