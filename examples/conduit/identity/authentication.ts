import type { FastifyRequest } from 'fastify'
import type { ModuleContext } from 'rung'
import { type Authenticate, tokenIn } from '../viewer.ts'
import { createTokens, type Token, type Tokens } from './tokens.ts'

export interface Authentication extends Authenticate {
  issue: Tokens['issue']
  /** What the token of a request says, where it is good. */
  tokenOf(request: FastifyRequest): Promise<Token | undefined>
}

export const tokensTag = (accountId: number) => `tokens:${accountId}`

/** A token is good as long as it is of the current generation of its account; who is signed out by a new password sees it at once. */
export function authentication({
  data,
  cache,
  acceptedSecrets,
}: Pick<ModuleContext, 'data' | 'cache' | 'acceptedSecrets'>): Authentication {
  const tokens = createTokens(() => acceptedSecrets('tokens'))
  const generationOf = cache.cached(
    'token-generation',
    { ttl: '10m', tags: (_generation, accountId) => [tokensTag(accountId)] },
    async (accountId: number) => {
      const [row] = await data.read(
        (sql) =>
          sql<{ token_generation: number }>`select token_generation from identity.account where id = ${accountId}`,
      )
      return row?.token_generation ?? null
    },
  )
  const good = async (text: string) => {
    const token = await tokens.verify(text)
    return token && (await generationOf(token.accountId)) === token.generation ? token : undefined
  }
  return {
    issue: tokens.issue,
    async authenticate({ token }) {
      const found = await good(token)
      return found ? { accountId: found.accountId } : null
    },
    async tokenOf({ headers }) {
      const text = tokenIn(headers.authorization)
      return text === undefined ? undefined : good(text)
    },
  }
}
