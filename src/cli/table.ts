/** Returns the lines of a table: each cell is cut to the width of its column, right-aligned where that is negative. */
export function tableLines(widths: readonly number[], rows: readonly (readonly string[])[], gap = '  '): string[] {
  return rows.map((cells) => {
    const padded = cells.map((cell, index) => {
      const width = widths[index]!
      return width < 0 ? cut(cell, -width).padStart(-width) : cut(cell, width).padEnd(width)
    })
    return padded.join(gap).trimEnd()
  })
}

/** Shortens text at its end. */
export function cut(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax - 1)}…`
}

/** Shortens text at its beginning: the end of a path says more. */
export function cutStart(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `…${text.slice(1 - charsMax)}`
}

/** `2026-11-03T10:15:00.000Z` */
export function iso(time: number): string {
  return new Date(time).toISOString()
}

/** `2026-11-03 10:15:00`, cut to whole seconds; UTC. */
export function second(time: number): string {
  return iso(time).slice(0, 19).replace('T', ' ')
}
