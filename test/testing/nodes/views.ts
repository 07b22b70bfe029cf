const views = new Map<string, number>()

/** What only one process knows. */
export function countView(page: string): number {
  const count = (views.get(page) ?? 0) + 1
  views.set(page, count)
  return count
}
