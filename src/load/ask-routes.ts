import { messageOf, RungError } from '../kernel/errors.ts'
import { documentPath } from '../primitives/http/openapi.ts'
import { filledProbesOf, type OpenApi, type Probe, probesOf } from './draft.ts'

/**
 * Asks the routes of an app that can be asked without knowing anything of it: those without parameters, then those of which the answers contain
 * a value for the parameter.
 * @throws LOAD_INVALID without an OpenAPI document
 */
export async function askRoutes(url: string): Promise<{ document: OpenApi; probes: Probe[] }> {
  const answer = await ask(`${url}${documentPath}`)
  const document = answer.body as OpenApi | undefined
  if (answer.status !== 200 || typeof document?.paths !== 'object')
    throw new RungError(
      'LOAD_INVALID',
      `${url}${documentPath} answered ${answer.status}, without an OpenAPI document. Is it an app of Rung?`,
    )
  const probes: Probe[] = []
  for (const path of probesOf(document)) probes.push({ path, ...(await ask(`${url}${path}`)) })
  for (const { path, address } of filledProbesOf(document, probes))
    probes.push({ path, ...(await ask(`${url}${address}`)) })
  return { document, probes }
}

/** @throws LOAD_INVALID */
async function ask(url: string): Promise<Omit<Probe, 'path'>> {
  try {
    const answer = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(10_000) })
    const text = await answer.text()
    const isJson = /\bjson\b/.test(answer.headers.get('content-type') ?? '')
    return { status: answer.status, ...(isJson && { body: JSON.parse(text) }) }
  } catch (cause) {
    throw new RungError('LOAD_INVALID', `${url} does not answer: ${messageOf(cause)}. Start the app first.`, { cause })
  }
}
