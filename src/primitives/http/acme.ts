import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { acmePath } from '../../kernel/http-facts.ts'
import type { Http } from './contract.ts'

/** Answers challenges that an ACME client puts into a folder, as `certbot --webroot` does. Its files are in `.well-known/acme-challenge`. */
export function answerChallenges(http: Http, folder: string): void {
  http.get(
    `${acmePath}:token`,
    { schema: { hide: true }, config: { limits: false, priority: 'critical' } as never },
    async (request, reply) => {
      const { token } = request.params as { token: string }
      // Letters of base64url only (RFC 8555, 8.3), so it is no path.
      const file = /^[\w-]{1,200}$/.test(token) ? path.join(folder, acmePath, token) : undefined
      const answer = file && (await readFile(file).catch(() => undefined))
      if (!answer) return reply.callNotFound()
      return reply.header('cache-control', 'no-store').type('application/octet-stream').send(answer)
    },
  )
}
