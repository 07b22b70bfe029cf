import { box } from '../classes.ts'

const users = new WeakMap<object, string>()
const byName: Record<string, string> = {} // found: state
export function forget(): void {
  users.set({}, 'a')
  byName.a = 'a'
  box.put('a')
}
