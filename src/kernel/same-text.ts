import { timingSafeEqual } from 'node:crypto'

/** In a time that says nothing about the place of the first difference: for what is secret. */
export function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
