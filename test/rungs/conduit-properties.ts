import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
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

const requestsInAll = 400
const operationsMin = 19
const answerWithinMs = 30_000

interface Judged {
  status: number
  contentType: string
  text: string
}

/**
 * The app against its own description: whatever is sent to whichever operation, the answer is none of the server's
 * failures, its status is documented for that operation, and its body is as documented for that status.
 */
export function conduitProperties(target: Target): void {
  describe('any request', () => {
    it('is answered as the app documents it', async (t) => {
      const response = await fetch(`${target().baseUrl}/openapi.json`)
      assert.equal(response.status, 200)
      const document = (await response.json()) as Document
      assert.match(document.openapi, /^3\.1\./)
      const operations = operationsOf(document)
      assert.ok(operations.length >= operationsMin, `${operations.length} operations`)
      const judge = judgeOf(document)
      const statuses: Record<string, number[]> = {}
      for (const operation of operations) {
        await t.test(operation.name, async () => {
          const { known, token } = await scene(target)
          const seen: number[] = []
          statuses[operation.name] = seen
          const numRuns = Math.ceil(requestsInAll / operations.length)
          await fc.assert(
            fc.asyncProperty(requestsOf(document, operation, known), async (request) => {
              const answer = await send(originOf(document, target), request, token)
              seen.push(answer.status)
              judge(operation, answer)
            }),
            { numRuns },
          )
        })
      }
      await t.test('and the requests reached what they were made for', () => {
        const all = Object.values(statuses)
        const served = all.filter((seen) => seen.some((status) => status < 300))
        assert.ok(served.length >= (all.length * 2) / 3, JSON.stringify(statuses))
        for (const status of [401, 404, 422]) assert.ok(all.flat().includes(status), `never a ${status}`)
      })
    })
  })
}

/** A user with an article, a tag and a comment, so that requests can name things that exist. */
async function scene(target: Target): Promise<{ known: Known; token: string }> {
  const api = conduitClient(target)
  const [person, other] = [await api.person(), await api.person()]
  const { slug, tagList } = await api.article(person, { tagList: ['property'] })
  const { id } = await api.comment(person, slug)
  await api.favorite(person, slug)
  const people = { author: person.username, favorited: person.username, username: other.username }
  const credentials = { email: person.email, password: person.password }
  return {
    known: { ...people, ...credentials, slug, tag: tagList[0]!, id: String(id), timeZone: 'Asia/Tokyo' },
    token: person.token,
  }
}

/** Where the document's paths begin: its server's path, on the target's origin. */
function originOf(document: Document, target: Target): string {
  const { baseUrl } = target()
  return baseUrl + new URL(document.servers?.[0]?.url ?? '/', baseUrl).pathname.replace(/\/$/, '')
}

async function send(origin: string, request: AnyRequest, token: string): Promise<Judged> {
  const { authorization, ...headers } = request.headers
  if (request.token === 'good') headers.authorization = `Token ${token}`
  if (request.token === 'in headers' && authorization !== undefined) headers.authorization = authorization
  const response = await fetch(origin + request.url, {
    method: request.method,
    headers,
    redirect: 'manual',
    signal: AbortSignal.timeout(answerWithinMs),
    ...(request.content === undefined ? {} : { body: request.content }),
  })
  const contentType = (response.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  return { status: response.status, contentType, text: await response.text() }
}

function judgeOf(document: Document): (operation: Operation, answer: Judged) => void {
  const ajv = new Ajv2020({ strict: false, allErrors: true, logger: false, validateSchema: false })
  addFormats.default(ajv)
  ajv.addSchema(document, 'openapi')
  return ({ name, pointer, responses }, { status, contentType, text }) => {
    const told = `${name} answered ${status} ${contentType} ${text.slice(0, 500)}`
    assert.ok(status < 500, told)
    const key = [String(status), `${String(status)[0]}XX`, 'default'].find((candidate) => candidate in responses)
    assert.ok(key !== undefined, `${told}: the status is not documented`)
    if (text === '') return
    const content = resolve(document, responses[key]!).content ?? {}
    assert.ok(contentType in content, `${told}: only ${Object.keys(content)} is documented`)
    if (!contentType.includes('json')) return
    const { schema } = content[contentType]!
    assert.ok(schema !== undefined, `${told}: without a schema`)
    const at = responses[key]!.$ref?.slice(1) ?? `${pointer}/responses/${key}`
    const steps = `${at}/content/${contentType.replaceAll('/', '~1')}/schema`
    const validate = ajv.getSchema(`openapi#${steps.split('/').map(encodeURIComponent).join('/')}`)
    assert.ok(validate, `${told}: no schema at ${steps}`)
    assert.ok(validate(JSON.parse(text)), `${told}: ${ajv.errorsText(validate.errors)}`)
  }
}
