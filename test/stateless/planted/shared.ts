export const sessions = new Map<string, string>() // found: state
export * from './lib/forget.ts'
