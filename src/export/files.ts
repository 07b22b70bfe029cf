import type { Deployment } from '../fleet/deployment.ts'
import type { Settings } from '../topology/read-settings.ts'

/** What is written for another system. */
export interface Exported {
  readonly deployment: Deployment
  readonly settings: Settings
  readonly app: ExportedApp
  /** From the folder of the written files to that of the app: `..`. */
  readonly context: string
}

export interface ExportedApp {
  readonly name: string
  /** Its file, if it is not found by itself: `src/shop.ts`. */
  readonly file: string | undefined
  /** A process stops within this time. */
  readonly stopMs: number
  readonly requestTimeoutMs: number
  /** Networks of proxies that the app itself trusts, besides those of the settings. */
  readonly trustedProxies: readonly string[]
}

/** Texts by the names of their files, which may contain folders. */
export type Files = Readonly<Record<string, string>>

export const mark = 'Written by rung export. Without this line the file is yours: it is left as it is.'

/** Returns the line that says who writes a file, as a comment. */
export function marked(comment: '#' | '--' | ';' = '#'): string {
  return `${comment} ${mark}`
}

export function isMarked(text: string): boolean {
  return text.split('\n', 3).some((line) => line.includes(mark))
}

export function inFolder(folder: string, files: Files): Files {
  return Object.fromEntries(Object.entries(files).map(([name, text]) => [`${folder}/${name}`, text]))
}

/** Beside a file that is filled in with secrets. */
export function ignoring(name: string): Files {
  return { '.gitignore': `${marked()}\n${name}\n` }
}

/** Indents all lines but the first one, which stands where the text is inserted. Lines without text are left out. */
export function lines(width: number, ...texts: readonly (string | false | undefined)[]): string {
  return texts
    .filter((text): text is string => typeof text === 'string' && text !== '')
    .flatMap((text) => text.split('\n'))
    .join(`\n${' '.repeat(width)}`)
}

/** A text in which none of Compose, Kubernetes and systemd puts a variable. */
export function literal(text: string): string {
  return text.replaceAll('$', '$$$$')
}

/** A text of YAML, quoted only if it could be taken for something else. */
export function scalar(value: string | number): string {
  const text = String(value)
  const isPlain = /^[A-Za-z/.][\w ./@=-]*$/.test(text) && !/ $|^(true|false|yes|no|on|off|null|y|n)$/i.test(text)
  return isPlain ? text : JSON.stringify(text)
}

/** A list of YAML on one line. */
export function flow(words: readonly string[]): string {
  return `[${words.map(scalar).join(', ')}]`
}
