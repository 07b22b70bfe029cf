/** What one process may keep that a second one would miss. The names are stable: scripts may match on them. */
export const keptKinds = {
  state: 'A variable of the process that requests change',
  cache: 'A cache of the process that hears of no change elsewhere',
  disk: 'A file on the disk of one machine',
  sessions: 'Sessions or counts that a library keeps in memory',
  timer: 'Work that every process would do',
  unread: 'A file that could not be read',
  'no-reason': 'An exception without a reason',
} as const

type KeptKind = keyof typeof keptKinds

/** What a look at the sources of an app found. */
export interface Kept {
  kind: KeptKind
  /** `act`: it breaks with a second process. `look`: needs a person's judgement. `note`: good to know. */
  severity: 'act' | 'look' | 'note'
  /** Absolute. */
  file: string
  /** From 1. */
  line: number
  /** One sentence. */
  what: string
  /** One sentence: what to do. */
  remedy: string
  /** Lines that change it, `file:line`, at most five. */
  changedAt: readonly string[]
}
