import { messageOf, RungError } from '../kernel/errors.ts'
import { documentPath } from '../primitives/http/openapi.ts'
import { filledProbesOf, type OpenApi, type Probe, probesOf } from './draft.ts'

/**
 * Asks the routes of an app that can be asked without knowing anything of it: those without parameters, then those of which the answers contain
 * a value for the parameter. Streams that do not end, and routes that do not answer in time, are left out.
 * @throws LOAD_INVALID without an OpenAPI document
 */
export async function askRoutes(url: string): Promise<{ document: OpenApi; probes: Probe[] }> {
  const answer = await ask(`${url}${documentPath}`).catch((cause) => {
    throw new RungError('LOAD_INVALID', `${url} does not answer: ${messageOf(cause)}. Start the app first.`, { cause })
  })
  const document = answer.body as OpenApi | undefined
  if (answer.status !== 200 || typeof document?.paths !== 'object')
    throw new RungError(
      'LOAD_INVALID',
      `${url}${documentPath} answered ${answer.status}, without an OpenAPI document. Is it an app of Rung?`,
    )
  const probes: Probe[] = []
  const probe = async (path: string, address: string) => {
    const answer = await ask(`${url}${address}`).catch(() => undefined)
    if (answer) probes.push({ path, ...answer })
  }
  for (const path of probesOf(document)) await probe(path, path)
  for (const { path, address } of filledProbesOf(document, probes)) await probe(path, address)
  return { document, probes }
}

/** @throws if there is no answer in time, or a stream of events that would not end */
async function ask(url: string): Promise<Omit<Probe, 'path'>> {
  const answer = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(10_000) })
  const type = answer.headers.get('content-type') ?? ''
  if (type.startsWith('text/event-stream')) {
    await answer.body?.cancel()
    throw new Error('it streams events')
  }
  const text = await answer.text()
  return { status: answer.status, ...(/\bjson\b/.test(type) && { body: JSON.parse(text) }) }
}
