import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import fc from 'fast-check'
import { conduitClient, type Target } from './conduit-client.ts'
import {
  type AnyRequest,
  type Document,
  type Known,
  type Operation,
  operationsOf,
  requestsOf,
  resolve,
} from './openapi-requests.ts'

const operationsMin = 19
const answerWithinMs = 30_000
const commandsMax = 60
const rememberedMax = 20

interface Judged {
  status: number
  contentType: string
  text: string
}

/** A request in which values that answers have told stand as placeholders. */
interface Command {
  operation: Operation
  request: AnyRequest
  /** Which of the values, and whose token. */
  pick: number
}

/** The statuses of each operation, by name. */
export type Reached = Record<string, number[]>

/**
 * The app against its own description: in any sequence of requests, which name what earlier answers have told, no answer is a failure of
 * the server, its status is documented for that operation, and its body is as documented for that status.
 */
export function conduitProperties(target: Target): void {
  describe('any requests', () => {
    it('are answered as the app documents it', async (t) => {
      const reached = await anyRequests(target, 2_000)
      const all = Object.values(reached)
      t.diagnostic(`${all.flat().length} requests to ${all.length} operations`)
      const served = all.filter((seen) => seen.some((status) => status < 300))
      assert.ok(served.length >= (all.length * 2) / 3, JSON.stringify(reached))
      for (const status of [401, 404, 422]) assert.ok(all.flat().includes(status), `never a ${status}`)
    })
  })
}

/**
 * Sends so many requests, in sequences. A failed one is made shorter, and told with the seed that repeats it.
 * @param onSequence called after each sequence with the requests so far
 */
export async function anyRequests(
  target: Target,
  requests: number,
  { seed, onSequence }: { seed?: number; onSequence?: (requests: number) => void } = {},
): Promise<Reached> {
  const response = await fetch(`${target().baseUrl}/openapi.json`)
  assert.equal(response.status, 200)
  const document = (await response.json()) as Document
  assert.match(document.openapi, /^3\.1\./)
  const operations = operationsOf(document)
  assert.ok(operations.length >= operationsMin, `${operations.length} operations`)
  const judge = judgeOf(document)
  const origin = originOf(document, target)
  const reached: Reached = Object.fromEntries(operations.map(({ name }) => [name, []]))
  const command: fc.Arbitrary<Command> = fc.oneof(
    ...operations.map((operation) =>
      fc.record({
        operation: fc.constant(operation),
        request: requestsOf(document, operation, placeholders),
        pick: fc.nat(rememberedMax - 1),
      }),
    ),
  )
  const commands = fc.array(command, { minLength: 1, maxLength: commandsMax, size: 'max' })
  let sent = 0
  const sequence = fc.asyncProperty(commands, async (all) => {
    const remembered = await scene(target)
    for (const { operation, request, pick } of all) {
      const filled = remembered.fill(request, pick)
      const answer = await send(origin, filled)
      sent += 1
      reached[operation.name]!.push(answer.status)
      judge(operation, answer, filled)
      remembered.learn(answer)
    }
    onSequence?.(sent)
  })
  // Sequences are somewhat shorter than half of what they may be, on average.
  const numRuns = Math.ceil((2.2 * requests) / commandsMax)
  await fc.assert(sequence, { numRuns, ...(seed === undefined ? {} : { seed }) })
  return reached
}

/** By the name of the parameter or property. A value that an answer told takes its place when the request is sent. */
const placeholders: Known = {
  ...{ author: 'KNOWNusername', favorited: 'KNOWNusername', username: 'KNOWNusername' },
  ...{ slug: 'KNOWNslug', tag: 'KNOWNtag', email: 'KNOWNemail', password: 'KNOWNpassword' },
  ...{ id: '810810810810', token: 'KNOWNlink', timeZone: 'Asia/Tokyo' },
}
const byPlaceholder: Record<string, string> = { 810810810810: 'id' }
const placeholder = /KNOWN(\w+?)(?![a-z])|810810810810/g

/** Two users, an article, a tag and a comment, and what answers tell from then on: the last of each kind. */
async function scene(target: Target) {
  const api = conduitClient(target)
  const people = [await api.person(), await api.person()]
  const [person] = people
  const { slug, tagList } = await api.article(person!, { tagList: ['property'] })
  const { id } = await api.comment(person!, slug)
  const tokens = people.map(({ token }) => token)
  const known: Record<string, string[]> = {
    username: people.map(({ username }) => username),
    email: people.map(({ email }) => email),
    ...{ password: [person!.password], slug: [slug], tag: [tagList[0]!], id: [String(id)], link: [tokens[0]!] },
  }
  const remember = (list: string[], value: unknown) => {
    const text = String(value)
    if (list.includes(text) || text.length > 1_000) return
    list.push(text)
    if (list.length > rememberedMax) list.shift()
  }
  function look(value: unknown): void {
    if (typeof value !== 'object' || value === null) return
    for (const [name, part] of Object.entries(value)) {
      if (name === 'token') remember(tokens, part)
      else if (name === 'tagList' || name === 'tags') for (const tag of part as string[]) remember(known.tag!, tag)
      else if (known[name] && typeof part !== 'object') remember(known[name], part)
      look(part)
    }
  }
  return {
    fill({ token, headers, url, content, ...rest }: AnyRequest, pick: number) {
      const of = (found: string, name = byPlaceholder[found]!) => known[name]![pick % known[name]!.length]!
      const { authorization, ...others } = headers
      const own =
        token === 'good' ? `Token ${tokens[pick % tokens.length]}` : token === 'none' ? undefined : authorization
      return {
        ...rest,
        url: url.replace(placeholder, (found, name) => encodeURIComponent(of(found, name)) || '-'),
        // Within a text of JSON.
        content: content?.replace(placeholder, (found, name) => JSON.stringify(of(found, name)).slice(1, -1)),
        headers: { ...others, ...(own === undefined ? {} : { authorization: own }) },
      }
    },
    learn({ status, contentType, text }: Judged) {
      if (status < 300 && contentType === 'application/json' && text !== '') look(JSON.parse(text))
    },
  }
}

/** Where the document's paths begin: its server's path, on the target's origin. */
function originOf(document: Document, target: Target): string {
  const { baseUrl } = target()
  return baseUrl + new URL(document.servers?.[0]?.url ?? '/', baseUrl).pathname.replace(/\/$/, '')
}

type Filled = Omit<AnyRequest, 'token'>

async function send(origin: string, { method, url, headers, content }: Filled): Promise<Judged> {
  const response = await fetch(origin + url, {
    method,
    headers,
    redirect: 'manual',
    signal: AbortSignal.timeout(answerWithinMs),
    ...(content === undefined ? {} : { body: content }),
  })
  const contentType = (response.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  return { status: response.status, contentType, text: await response.text() }
}

function judgeOf(document: Document): (operation: Operation, answer: Judged, request: Filled) => void {
  const ajv = new Ajv2020({ strict: false, allErrors: true, logger: false, validateSchema: false })
  addFormats.default(ajv)
  ajv.addSchema(document, 'openapi')
  return ({ name, pointer, responses }, { status, contentType, text }, { url, content = '' }) => {
    const told = `${name} ${url} ${content.slice(0, 500)} answered ${status} ${contentType} ${text.slice(0, 500)}`
    assert.ok(status < 500, told)
    const key = [String(status), `${String(status)[0]}XX`, 'default'].find((candidate) => candidate in responses)
    assert.ok(key !== undefined, `${told}: the status is not documented`)
    if (text === '') return
    const answers = resolve(document, responses[key]!).content ?? {}
    assert.ok(contentType in answers, `${told}: only ${Object.keys(answers)} is documented`)
    if (!contentType.includes('json')) return
    const { schema } = answers[contentType]!
    assert.ok(schema !== undefined, `${told}: without a schema`)
    const at = responses[key]!.$ref?.slice(1) ?? `${pointer}/responses/${key}`
    const steps = `${at}/content/${contentType.replaceAll('/', '~1')}/schema`
    const validate: ValidateFunction | undefined = ajv.getSchema(
      `openapi#${steps.split('/').map(encodeURIComponent).join('/')}`,
    )
    assert.ok(validate, `${told}: no schema at ${steps}`)
    assert.ok(validate(JSON.parse(text)), `${told}: ${ajv.errorsText(validate.errors)}`)
  }
}
