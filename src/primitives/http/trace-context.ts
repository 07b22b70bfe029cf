import { randomFillSync } from 'node:crypto'

/** W3C Trace Context, level 1: `00-<32 hex trace>-<16 hex span>-<2 hex flags>`; all-zero ids are invalid. */
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

/** The context of this server's own span: the caller's trace, or a new one that nobody asked to have recorded. */
export function childOf(parent: TraceContext | undefined): string {
  return `00-${parent?.traceId ?? randomHex(16)}-${randomHex(8)}-${parent?.flags ?? '00'}`
}

// One system call for many ids.
const pool = Buffer.alloc(4096)
let used = pool.length

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += bytes
  return pool.toString('hex', used - bytes, used)
}
