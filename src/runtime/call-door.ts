import { type CallHandlers, type CallSchemas, type CallsContract, checksOf } from '../app/calls.ts'
import { answerCall, type CallMessage, type CallTags } from '../app/crossing.ts'
import { RungError } from '../kernel/errors.ts'
import { callsPath } from '../kernel/http-facts.ts'
import type { Keys } from '../kernel/keys.ts'
import type { Http } from '../primitives/http/contract.ts'
import { isSignedCall, signatureHeader } from './call-signature.ts'

/** Its body stays text until its signature has been checked. */
export const callContentType = 'application/vnd.rung.call+json'
const callBytesMax = 4 * 1024 ** 2

export interface CallDoor {
  contract: CallsContract
  handlers: CallHandlers
  keys: Keys
  tags: Pick<CallTags, 'collect'>
}

/** Adds the routes at which processes of other groups call a module. Nobody else finds them. */
export async function openCallDoor(http: Http, { contract, handlers, keys, tags }: CallDoor): Promise<void> {
  const { module, schemas } = contract
  await http.register(async (scoped) => {
    scoped.addContentTypeParser(callContentType, { parseAs: 'string' }, (_request, body, done) => done(null, body))
    for (const [name, schema] of Object.entries(schemas as CallSchemas)) {
      const path = pathOfCall(module, name)
      const { input } = checksOf(module, name, schema)
      const options = { schema: { hide: true }, config: { system: true, module }, bodyLimit: callBytesMax } as const
      scoped.post(path, options, async (request, reply) => {
        const body = request.body as string
        if (typeof body !== 'string' || !isSignedCall(keys, path, body, request.headers[signatureHeader]))
          throw new RungError('HTTP_UNAUTHORIZED', 'Only processes of this fleet may call this.')
        const message = JSON.parse(body) as CallMessage
        const checked: CallHandlers = { [name]: (value) => handlers[name]!(input(value).value as never) }
        const answer = await answerCall(checked, { ...message, name }, tags)
        return reply.type('application/json').send(JSON.stringify(answer))
      })
    }
  })
}

/** `/-/calls/accounts.names`. The balancer finds the group by the name of the module. */
export function pathOfCall(module: string, call: string): string {
  return `${callsPath}${module}.${call}`
}
