import { uuid } from '../../kernel/random.ts'

/** W3C Trace Context, level 1: `00-<32 hex trace>-<16 hex span>-<2 hex flags>`; ids that are all zero are invalid. */
const format = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/

export interface TraceContext {
  traceId: string
  spanId: string
  flags: string
}

export function parseTraceparent(header: unknown): TraceContext | undefined {
  const match = typeof header === 'string' ? format.exec(header) : null
  return match ? { traceId: match[1]!, spanId: match[2]!, flags: match[3]! } : undefined
}

/** Returns the context of this server's own span: in the caller's trace, or in a new one that is not recorded. */
export function childOf(parent: TraceContext | undefined): string {
  return `00-${parent?.traceId ?? randomHex(32)}-${randomHex(16)}-${parent?.flags ?? '00'}`
}

function randomHex(digits: number): string {
  return uuid().replaceAll('-', '').slice(-digits)
}
