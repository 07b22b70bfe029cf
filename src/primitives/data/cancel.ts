import { currentScope } from '../../kernel/scope.ts'
import type { Connection } from './contract.ts'

/**
 * Cancels the connection's statement on the server when the current scope is cancelled.
 * @returns a function that ends this. What it returns must be awaited before the connection is released: a late cancel would hit the
 * statement of another.
 */
export function cancelWithScope(connection: Connection): () => Promise<void> | undefined {
  let cancelling: Promise<void> | undefined
  const forget = currentScope()?.onCancel(() => {
    cancelling = connection.cancel().catch(() => {})
  })
  return () => {
    forget?.()
    return cancelling
  }
}
