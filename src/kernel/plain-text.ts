/** Control characters, which a terminal obeys, and those by which a text shows its parts in another order (Unicode, UAX 9: embeddings, overrides, isolates). */
const obeyed = /[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu

/** Returns a text of others as one line that only shows what it is: a question mark for each character that is obeyed instead of shown. */
export function plainText(text: string): string {
  return text.replace(obeyed, '?')
}

/** The same for a text of more than one line, which keeps its line breaks and tabs. */
export function plainLines(text: string): string {
  return text.replace(obeyed, (char) => (char === '\n' || char === '\t' ? char : '?'))
}
